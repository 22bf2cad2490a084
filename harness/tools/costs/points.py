# SPDX-License-Identifier: GPL-2.0-only
"""What is observed of a kernel to measure costs: where its functions, locks and interrupts are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.observer.consistency_points import exits
from harness.observer.image import image_of
from harness.observer.shared_file import Kind, Point
from harness.observer.task_clock import InterruptPoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.observer.image import Image, Instruction
    from harness.vm.kernel.kernel import Kernel

ENABLE, HOOK, UNHOOK = "klp_enable_patch", "klp_patch_object", "klp_unpatch_objects"
INIT, START = "klp_init_transition", "klp_start_transition"
TRY, COMPLETE = "klp_try_complete_transition", "klp_complete_transition"
SWITCH = "klp_try_switch_task"
STEPS = (ENABLE, HOOK, INIT, START, TRY, COMPLETE, UNHOOK)
ALL_STEPS = (*STEPS, SWITCH)
"""The last one may be a part of others in a kernel that is compiled in another way."""

TASKLIST, MUTEX = "tasklist_lock", "klp_mutex"
LOCKS = (TASKLIST, MUTEX, "ftrace_lock", "text_mutex")
WAITS = (
    *("synchronize_rcu", "synchronize_rcu_tasks", "synchronize_rcu_tasks_rude"),
    *("synchronize_srcu", "schedule_on_each_cpu"),
)
COLD = ""
"""The step of an end that several functions share."""

_ACQUIRE = ("mutex_lock", "_raw_read_lock")
_RELEASE = ("mutex_unlock", "_raw_read_unlock")
_INTERRUPTS = re.compile(r"asm_(?:sysvec_\w+|common_interrupt|spurious_interrupt)$")
_IRET, _DEATH, _SWITCH = "native_irq_return_iret", "do_task_dead", "__switch_to_asm"
_LOAD_RSP = b"\x48\x8b\xa6"
_LOCKED = re.compile(r"(?:lock )?(?:cmpxchg|xadd|dec|sub|add)[bwlq]?\s")
_TASKLIST = re.compile(r"<tasklist_lock>$")


@dataclass(frozen=True, kw_only=True)
class CostPoints:
    """By addresses: the steps of a transition and where each ends, locks and waits.

    ``acquires`` and ``releases`` are stores to a lock, ``locks`` the locks.
    """

    steps: dict[int, str]
    ends: dict[int, str]
    acquires: frozenset[int]
    releases: frozenset[int]
    locks: dict[int, str]
    waits: dict[int, str]
    interrupts: InterruptPoints
    switch: int

    def points(self) -> list[Point]:
        """Return the points for the plugin."""
        clock = self.interrupts
        executed = {*self.steps, *self.ends, *self.waits, *clock.begins, clock.end, clock.death}
        return [
            Point(self.switch, Kind.SWITCH),
            *(Point(address, Kind.POINT) for address in executed),
            *(Point(address, Kind.STORE) for address in self.acquires | self.releases),
        ]


def find_points(kernel: Kernel) -> CostPoints:
    """Return what to observe. Raises UsageError for a kernel without symbols, or unlike others."""
    image = image_of(kernel)
    missing = [name for name in (*STEPS, _IRET, _DEATH, _SWITCH) if not image.symbols.named(name)]
    loads = [insn for insn in image.function(_SWITCH) if insn.data.startswith(_LOAD_RSP)]
    if missing or len(loads) != 1:
        what = f"it has no {missing[0]}" if missing else "where it switches tasks is not found"
        raise UsageError(
            f"the costs of {kernel.describe()} cannot be measured: {what}",
            hint="the kernels 5.10 to 7.2 are known, and others that are like them",
        )
    core = [name for name in image.symbols.function_names() if name.startswith("klp_")]
    return CostPoints(
        steps={_address(image, step): step for step in ALL_STEPS if image.symbols.named(step)},
        ends=_ends(image),
        acquires=frozenset(_locked(image, _ACQUIRE)),
        releases=frozenset((*_locked(image, _RELEASE), *_inlined_releases(image, core))),
        locks={_address(image, name): name for name in LOCKS if image.symbols.named(name)},
        waits={_address(image, name): name for name in WAITS if image.symbols.named(name)},
        interrupts=InterruptPoints(
            begins=frozenset(
                _address(image, name) for name in image.symbols.names() if _INTERRUPTS.match(name)
            ),
            end=_address(image, _IRET),
            death=_address(image, _DEATH),
        ),
        switch=loads[0].address,
    )


def _address(image: Image, name: str) -> int:
    return image.symbols.named(name)[0].address


def _parts(image: Image, name: str) -> list[tuple[int, int]]:
    """Return the ranges of a function and of what the compiler has split off from it."""
    names = [
        each
        for each in image.symbols.function_names()
        if each == name or each.startswith(f"{name}.")
    ]
    return [
        (symbol.address, symbol.address + symbol.size)
        for each in names
        for symbol in image.symbols.named(each)
        if symbol.size
    ]


def _ends(image: Image) -> dict[int, str]:
    """Return where each step is left: by returns, and by jumps to other functions."""
    thunk = image.symbols.named("__x86_return_thunk")
    thunk_at = thunk[0].address if thunk else 0
    # The compiler shares cold code between functions, so a jump there is no way out, and a return
    # there is one of the step that is open.
    cold = {
        part
        for name in image.symbols.function_names()
        if name.startswith("klp_") and ".cold" in name
        for part in _parts(image, name)
    }
    ends: dict[int, str] = {}
    for step in ALL_STEPS:
        own = sorted({*_parts(image, step), *cold})
        code = [insn for part in _parts(image, step) for insn in image.instructions(*part)]
        ends |= dict.fromkeys(exits(code, own, thunk_at)[0], step)
    for part in cold:
        returns, _ = exits(image.instructions(*part), [(0, 1 << 64)], thunk_at)
        ends |= dict.fromkeys(returns, COLD)
    return ends


def _code(image: Image, names: Sequence[str]) -> Iterator[Instruction]:
    for name in names:
        for symbol in image.symbols.named(name):
            if symbol.size:
                yield from image.instructions(symbol.address, symbol.address + symbol.size)


def _locked(image: Image, names: Sequence[str]) -> Iterator[int]:
    for insn in _code(image, names):
        if insn.data[0] == 0xF0 and _LOCKED.match(insn.text):
            yield insn.address


def _inlined_releases(image: Image, names: Sequence[str]) -> Iterator[int]:
    """Yield where functions of the core unlock the list of tasks themselves."""
    for insn in _code(image, names):
        if insn.data[0] == 0xF0 and _TASKLIST.search(insn.text):
            yield insn.address
