# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch that the kernel refuses, whose memory is freed then.

klp_enable_patch() (kernel/livepatch/core.c) initialises the kobjects of the patch, of all objects
and of all functions, then adds them one by one, and waits for the release of the patch's own one
when something fails. A kobject that was added holds a reference to its parent, so that one is
released last. One that was never added holds none: nobody waits for its release.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.errors import HarnessError, ModuleRefused
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from harness.tools.race.trial_context import TrialContext

PATCH = "klp_test_refused"
# The release of each kobject is delayed by 1, 2, 3 or 4 s, which is the kernel's choice. A try
# shows nothing when that of the patch is the longest.
_TRIES = 6


@reproducer(
    "refused-release",
    rule="LD-09",
    shows=r"ODEBUG: free active|debugobjects: free active",
    needs=("CONFIG_DEBUG_KOBJECT_RELEASE",),
    fragment="debug",
)
def refused_release(context: TrialContext) -> None:
    """A livepatch is refused and freed, and kobjects in its memory are released later."""
    for _ in range(_TRIES):
        try:
            context.livepatch.load(PATCH)
        except ModuleRefused as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            raise HarnessError(f"{PATCH} was loaded, and no kernel takes an object of that name")
        context.guest.check_splats()
