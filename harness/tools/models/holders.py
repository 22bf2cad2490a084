# SPDX-License-Identifier: GPL-2.0-only
"""Who keeps a transition from its end, in any consistency model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.livepatch.blockers import parse_stack, patched_function_on
from harness.livepatch.tasks import PatchState

if TYPE_CHECKING:
    from harness.livepatch.patch import Livepatch, Patch

SLEEPERS = "klp-sleepers"
_NAMED = 3


def who_holds(livepatch: Livepatch, patch: Patch) -> str:
    """Return who is inside a function that has to be left; when nobody is, who has not switched.

    Patch states say nothing where the whole kernel switches at once, so stacks come first. Crowds
    of sleepers are in no patched function, and are not looked at.
    """
    guest = livepatch.guest
    enabling = patch.enabled
    functions = [
        (patched.name, function.name)
        for patched in patch.objects()
        for function in patched.functions()
        if enabling
    ]
    # The functions of the patch itself are those to be left when it is disabled.
    patches = [
        each.name for each in livepatch.patches() if not (enabling and each.name == patch.name)
    ]
    tasks = guest.tasks().tasks
    inside = []
    for task in tasks:
        if task.comm.startswith(SLEEPERS):
            continue
        try:
            stack = parse_stack(guest.stack(task.tid))
        except (FileNotFoundError, ProcessLookupError):
            continue
        found = patched_function_on(stack, functions=functions, patches=patches)
        if found is not None:
            kind = ", a kernel thread," if task.kthread else ""
            inside.append(f"{task.comm} ({task.tid}){kind} is inside {found}()")
    if inside:
        more = f" and {len(inside) - _NAMED} more" if len(inside) > _NAMED else ""
        return ", ".join(inside[:_NAMED]) + more
    old = PatchState.UNPATCHED if enabling else PatchState.PATCHED
    left = [task for task in tasks if task.patch_state == old]
    if not left:
        return "no task is inside, and none is left to switch"
    kthreads = sum(task.kthread for task in left)
    names = ", ".join(sorted({task.comm.partition("/")[0] for task in left})[:_NAMED])
    return f"not switched: {len(left)}, of which kernel threads: {kthreads} ({names}, ...)"
