# SPDX-License-Identifier: GPL-2.0-only
"""Which points an action passes: one run of it alone, with breakpoints at all candidates."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.observer.shared_file import Kind, SharedFile
from harness.tools.race.explore.duel import Place, Word
from harness.tools.race.explore.kernel_code import CALLERS
from harness.tools.race.explore.passage import Passage, thinned
from harness.tools.race.explore.running import A

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.tools.race.explore.actions import Action
    from harness.tools.race.explore.control import HeldGuest
    from harness.tools.race.explore.kernel_code import KernelCode
    from harness.tools.race.explore.points import Point

_TRACE_S = 20.0
# These read what others change, and take no lock: each of their accesses is a point.
_LOCKLESS = frozenset({"klp_ftrace_handler", "klp_update_patch_state", "klp_copy_process"})
_PAUSE_S = 5.0
# Whoever leaves runs on for a little after its end was seen.
_LAST_S = 0.1


class Candidates:
    """The points at which a CPU may be held: in kernel/livepatch, and in what calls it."""

    def __init__(self, code: KernelCode, *, dense: bool) -> None:
        self._code = code
        self._dense = dense
        self._own = code.livepatch_functions()

    def entries(self) -> Mapping[int, Point]:
        """Return the entries of all these functions, by address."""
        return self._code.entries((*self._own, *CALLERS))

    def inside(self, function: str) -> Mapping[int, Point]:
        """Return the points of a function behind its entry, by address."""
        dense = function in _LOCKLESS or (self._dense and function in self._own)
        return self._code.inside(function, dense=dense)

    def all(self) -> Mapping[int, Point]:
        """Return all of them, by address."""
        found = dict(self.entries())
        for point in tuple(found.values()):
            found |= self.inside(point.function)
        return found


def trace(held: HeldGuest, a: Action, steps: tuple[str, ...], where: Candidates) -> Passage:
    """Return the points that A passes when it acts alone, in steps.

    And those that other tasks on its CPU pass, until all has settled, if they count. A function's
    own points get breakpoints when the function is entered: QEMU is slow with many.
    """
    held.arm(steps, (), ())
    held.begin_a(len(steps))
    gdb = held.gdb
    left = dict(where.entries())
    held.set_breakpoints((*left, Place.A_END, Place.E_END))
    passed: dict[Point, None] = {}
    end_s, pause_s = time.monotonic() + held.scaled(_TRACE_S), held.scaled(_PAUSE_S)
    while time.monotonic() < end_s:
        stop = held.run_until(lambda _: True, pause_s)
        if stop is None or stop.cpu is None:
            if a.leaves and not held.is_idle():
                continue
            break
        pc, is_a = gdb.pc(stop.cpu), stop.cpu == A and held.is_a()
        if pc == Place.E_END:
            break
        if pc == Place.A_END and held.duel.get(Word.A_DONE) >= len(steps):
            if a.by_any:
                held.duel.set(Word.SETTLE_GO, 1)
            elif a.leaves:
                pause_s = held.scaled(_LAST_S)
            else:
                break
        elif pc in left and stop.cpu == A and (is_a or a.counts_in_others(left[pc].function)):
            point = left.pop(pc)
            gdb.clear_breakpoint(pc)
            passed.setdefault(point if is_a else replace(point, by_any=True))
            if point.is_entry:
                more = where.inside(point.function)
                held.set_breakpoints(more)
                left |= more
        gdb.step(stop.cpu)
    points = tuple(passed)
    return Passage(tuple(points[number] for number in thinned(points)))


def trace_noted(held: HeldGuest, a: Action, steps: tuple[str, ...], where: Candidates) -> Passage:
    """Return what `trace` does, with the accesses between the points, as QEMU's plugin notes them.

    The guest's plugin has the candidates: there is no breakpoint at any, and gdb steps nothing.
    """
    file = held.accesses
    assert file is not None
    held.arm(steps, (), ())
    held.begin_a(len(steps))
    start = file.begin()
    if held.await_word(Word.A_DONE, len(steps), held.scaled(_TRACE_S)):
        if a.by_any:
            held.settle(held.scaled(_TRACE_S))
        elif a.leaves:
            held.run_to_end_of_a()
    end = file.end()
    candidates = where.all()
    passed: dict[Point, int] = {}
    for event in SharedFile(file.path).events():
        if event.kind != Kind.PASSAGE:
            continue
        is_a = held.is_a_task(event.task)
        point = candidates[event.where]
        if is_a or a.counts_in_others(point.function):
            passed.setdefault(point if is_a else replace(point, by_any=True), event.data)
    points, marks = tuple(passed), tuple(passed.values())
    kept = thinned(points)
    accesses = file.read(start, end, cpu=A, at=[marks[number] for number in kept])
    return Passage(tuple(points[number] for number in kept), accesses, held.count_address())
