# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch of an __init function of a target that is loaded later.

klp_module_coming() (kernel/livepatch/core.c) runs before the target's init, finds the function and
patches it. Then its text is freed, and ftrace forgets it (ftrace_free_mem()). klp_unpatch_func()
(kernel/livepatch/patch.c) asks ftrace for it, warns, and returns before the livepatch's klp_func is
off the list. It stays there when the livepatch's module is freed.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelVerdict, ModuleRefused, RaceShown
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from harness.livepatch.kernel_log import KernelLog
    from harness.tools.race.trial_context import TrialContext

TARGET, FUNCTION = "klp_target_setup", "klp_setup_text"
PATCH, OTHER = "klp_test_symbol", "klp_test_cmdline_a"
UNPATCH = "klp_unpatch_func"
# With other options the compiler makes it a part of its caller.
INLINED_INTO = "__klp_unpatch_object"


@reproducer("late-init", rule="MO-09")
def late_init(context: TrialContext, kernel_log: KernelLog) -> None:
    """A livepatch of a freed function is unloaded; the next transition reads its memory."""
    guest, livepatch = context.guest, context.livepatch
    # No module is loaded later: it could take the memory that is freed, and hide the access to it.
    other = livepatch.load(OTHER, wait=True)
    patch = livepatch.load(PATCH, object=TARGET, function=FUNCTION, wait=True)
    try:
        livepatch.load_target(TARGET)
    except ModuleRefused as error:
        # A kernel may refuse it, as it refuses the livepatch when that is loaded last.
        if error.errno != errno.EINVAL:
            raise
    else:
        if not kernel_log.matching(f"init sees: {PATCH}$"):
            raise HarnessError(f"{FUNCTION}() was not patched", details=tuple(kernel_log.texts()))
    # The warning is half of what is shown; the other half is what follows from it.
    warning = rf"WARNING: .*\b(?:{UNPATCH}|{INLINED_INTO})\b"
    guest.expect_splat(warning, required=False)
    patch.disable()
    patch.unload()
    warned = bool(kernel_log.matching(warning))
    try:
        other.disable()
        other.unload()
    except KernelVerdict as error:
        if warned:
            raise RaceShown(
                f"{UNPATCH}() warned, and {PATCH} was unloaded; when the next livepatch was "
                f"disabled: {error.message}",
                details=error.details,
                artefacts=error.artefacts,
            ) from error
        raise
    if warned:
        raise RaceShown(f"{UNPATCH}() warned that ftrace does not know {FUNCTION}()")
