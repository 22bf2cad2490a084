# SPDX-License-Identifier: GPL-2.0-only
"""The attribute stack_order of a livepatch that has left the stack.

stack_order_show() (kernel/livepatch/core.c) counts the livepatches up to its own. One that was
disabled is on the list no more, while its directory stays until the last reference to its kobject
is dropped: the count is that of all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import RaceShown, UsageError
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from harness.livepatch.kernel_log import KernelLog
    from harness.tools.race.trial_context import TrialContext

HELD, OTHER = "klp_test_held", "klp_test_cmdline_a"
_PARAMETER = f"/sys/module/{HELD}/parameters/held"


@reproducer("stack-order", rule="SY-08", functions=("stack_order_show",))
def stack_order(context: TrialContext, kernel_log: KernelLog) -> None:
    """A disabled livepatch, whose directory is held, has the stack_order of another one."""
    guest, livepatch = context.guest, context.livepatch
    other = livepatch.load(OTHER, wait=True)
    held = livepatch.load(HELD, wait=True)
    if other.stack_order is None:
        raise UsageError("this kernel's livepatches have no attribute stack_order")
    guest.write(_PARAMETER, "1")
    held.disable(wait=False)
    kernel_log.wait_for(f"'{HELD}': unpatching complete")
    shown = held.stack_order
    guest.write(_PARAMETER, "0")
    held.wait_gone()
    held.unload()
    if shown == other.stack_order:
        raise RaceShown(
            f"{HELD}, which is disabled, has stack_order {shown}, and so has {OTHER}, which is "
            "enabled"
        )
    other.disable()
    other.unload()
