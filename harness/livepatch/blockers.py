# SPDX-License-Identifier: GPL-2.0-only
"""Which tasks hold a transition, and in which function: by patch states and kernel stacks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.livepatch.tasks import PatchState, TaskHandle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.livepatch.guest import Guest

VMLINUX = "vmlinux"

# "[<0>] klp_gate_wait+0x1d/0x40 [klp_target_gate]": %pB in fs/proc/base.c, proc_pid_stack().
# A kernel with CONFIG_STACKTRACE_BUILD_ID has the module's build id after its name.
_ENTRY = re.compile(
    r"\[<0>\] (?P<function>[^\s+]+)\+0x[0-9a-f]+/0x[0-9a-f]+"
    r"(?: \[(?P<module>\w+)(?: [0-9a-f]+)?\])?\s*$"
)


@dataclass(frozen=True, kw_only=True)
class StackEntry:
    """A function on a kernel stack; ``module`` is "vmlinux" for the kernel itself."""

    function: str
    module: str


@dataclass(frozen=True)
class Blocker:
    """A task that has not switched, and the patched function that it sleeps in.

    ``in_function`` is None when no patched function is on its stack: the task runs, its stack is
    unreliable, or the kernel has not tried to switch it yet.
    """

    task: TaskHandle
    in_function: str | None = field(kw_only=True)
    state: str = field(kw_only=True, default="?", compare=False)
    stack: tuple[str, ...] = field(kw_only=True, default=(), compare=False)

    def describe(self) -> tuple[str, ...]:
        """Return a line with the task, its state and the function, then the lines of its stack."""
        where = f"in {self.in_function}()" if self.in_function else "in no patched function"
        kind = "kernel thread" if self.task.kthread else "task"
        head = f"{kind} {self.task.tid} ({self.task.comm}): state {self.state}, {where}"
        return (head, *(f"  {line}" for line in self.stack))


def parse_stack(text: str) -> list[StackEntry]:
    """Return the functions in the text of /proc/TID/stack, innermost first."""
    entries = []
    for line in text.splitlines():
        match = _ENTRY.match(line.strip())
        if match:
            entries.append(
                StackEntry(function=match["function"], module=match["module"] or VMLINUX)
            )
    return entries


def patched_function_on(
    stack: Iterable[StackEntry], *, functions: Iterable[tuple[str, str]], patches: Iterable[str]
) -> str | None:
    """Return the innermost function on the stack for which a transition waits, or None.

    ``functions`` are (object, function) pairs of the patch. sysfs does not have the names of new
    bodies, so every function of a patch module counts: of the patch itself while it is disabled, of
    an older one below it while it is enabled (kernel/livepatch/transition.c,
    klp_check_stack_func()).
    """
    originals = set(functions)
    modules = set(patches)
    for entry in stack:
        if (entry.module, entry.function) in originals or entry.module in modules:
            return entry.function
    return None


def find_blockers(
    guest: Guest,
    target: PatchState,
    *,
    functions: Iterable[tuple[str, str]],
    patches: Iterable[str],
) -> list[Blocker]:
    """Return the tasks that a running transition has not switched to ``target``, by thread id.

    A task that switches or exits meanwhile is left out.
    """
    functions, patches = list(functions), list(patches)
    found = []
    for task in guest.tasks().tasks:
        if task.patch_state is None or task.patch_state in (int(target), PatchState.UNDEFINED):
            continue
        handle = TaskHandle.of(guest, task)
        try:
            text = guest.stack(task.tid)
            if handle.patch_state in (target, PatchState.UNDEFINED):
                continue
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append(
            Blocker(
                handle,
                in_function=patched_function_on(
                    parse_stack(text), functions=functions, patches=patches
                ),
                state=task.state,
                stack=tuple(text.splitlines()),
            )
        )
    return sorted(found, key=lambda blocker: blocker.task.tid)
