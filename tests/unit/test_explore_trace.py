# SPDX-License-Identifier: GPL-2.0-only
"""Which points one run of A passes, by a guest of the test's own; and the calls of a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from harness.tools.race.explore.actions import ACTIONS
from harness.tools.race.explore.calls import CallRecorder
from harness.tools.race.explore.duel import Place, Word
from harness.tools.race.explore.kernel_code import KernelCode
from harness.tools.race.explore.points import Point
from harness.tools.race.explore.trace import Candidates, trace
from harness.vm.guest.gdb_client import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

F, CALL, G, OTHER, FORK = 0x100, 0x104, 0x200, 0x300, 0x400
ENTRIES = {
    F: Point(function="f"),
    G: Point(function="g"),
    OTHER: Point(function="other"),
    FORK: Point(function="copy_process"),
}
INSIDE = {"f": {CALL: Point(function="f", callee="g")}}
A_TASK, B_TASK, WORKER, KTHREADD = 1, 2, 3, 4


class Code:
    """Two functions, of which one calls the other, and one more."""

    def livepatch_functions(self) -> tuple[str, ...]:
        return ("f", "g")

    def entries(self, functions: Iterable[str]) -> dict[int, Point]:
        assert {"f", "g", "copy_process"} <= set(functions)
        return dict(ENTRIES)

    def inside(self, function: str, *, dense: bool) -> dict[int, Point]:
        assert not dense
        return INSIDE.get(function, {})


class Guest:
    """Comes to addresses, in turns, where there is a breakpoint."""

    def __init__(self, *way: tuple[int, int, int]) -> None:
        """``way``: CPU, task, address."""
        self.way = list(way)
        self.gdb = self
        self.duel = self
        self.breakpoints: set[int] = set()
        self.words: dict[int, int] = {Word.A_DONE: 1}
        self.on_stop: Callable[[Stop], None] = lambda _: None
        self.patience = 1
        self.accesses = None
        self.looks: list[bool] = []
        self._at = (0, 0, 0)

    def run_until(self, wanted: Callable[[Stop], bool], seconds: float) -> Stop | None:
        while self.way:
            self._at = self.way.pop(0)
            if self._at[2] in self.breakpoints:
                stop = Stop(self._at[0])
                self.on_stop(stop)
                if wanted(stop):
                    return stop
        return None

    def pc(self, cpu: int) -> int:
        assert cpu == self._at[0]
        return self._at[2]

    def task(self, cpu: int) -> int:
        assert cpu == self._at[0]
        return self._at[1]

    def is_idle(self) -> bool:
        return self.looks.pop(0) if self.looks else True

    def is_a(self) -> bool:
        return self._at[1] == A_TASK

    def is_a_task(self, task: int) -> bool:
        return task == A_TASK

    def set_breakpoints(self, addresses: Iterable[int]) -> None:
        self.breakpoints |= set(addresses)

    def clear_breakpoint(self, address: int) -> None:
        self.breakpoints.remove(address)

    def get(self, word: int) -> int:
        return self.words.get(word, 0)

    def set(self, word: int, value: int) -> None:
        self.words[word] = value

    def scaled(self, seconds: float) -> float:
        return seconds

    def arm(self, *orders: object) -> None:
        assert orders == (("step",), (), ())

    def begin_a(self, steps: int) -> None:
        assert steps == 1

    def step(self, cpu: int) -> None:
        assert cpu == self._at[0]


def traced(guest: Guest, a: str = "load") -> tuple[str, ...]:
    where = Candidates(cast("KernelCode", Code()), dense=False)
    passage = trace(cast("Any", guest), ACTIONS[a], ("step",), where)
    assert bool(passage.accesses) == (guest.accesses is not None)
    return tuple(str(each) for each in passage.points)


def test_each_point_once_in_the_order_of_the_first_passages() -> None:
    """Those of other tasks, and of the other CPU, are not A's."""
    guest = Guest(
        (1, B_TASK, F), (0, A_TASK, F), (0, WORKER, OTHER), (0, A_TASK, CALL), (0, A_TASK, G),
        (0, A_TASK, F), (0, A_TASK, Place.A_END), (0, A_TASK, OTHER),
    )  # fmt: skip
    assert traced(guest) == ("f", "call of g in f")


def test_points_of_workers() -> None:
    """What A sets going goes on after its end, until all has settled."""
    guest = Guest(
        (0, A_TASK, F), (0, A_TASK, Place.A_END), (0, WORKER, OTHER), (1, WORKER, G),
        (0, WORKER, Place.E_END), (0, WORKER, G),
    )  # fmt: skip
    assert traced(guest, "disable") == ("f", "other@any")
    assert guest.words[Word.SETTLE_GO] == 1


def test_whoever_leaves_goes_on_after_its_end_was_seen() -> None:
    """Until its CPU has nothing to do."""
    way = ((0, A_TASK, F), (0, WORKER, Place.A_END), (0, A_TASK, OTHER))
    assert traced(Guest(*way), "exit") == ("f", "other")
    assert traced(Guest(*way), "fork") == ("f",)

    class Slow(Guest):
        def run_until(self, wanted: Callable[[Stop], bool], seconds: float) -> Stop | None:
            if self.way and self.way[0][1] == 0:
                self.way.pop(0)
                return None
            return super().run_until(wanted, seconds)

    pause = (0, 0, 0)
    slow = Slow(way[0], way[1], pause, pause, way[2], pause, (0, A_TASK, G))
    slow.looks = [False, False, True]
    assert traced(slow, "exit") == ("f", "other")


def test_a_task_that_kthreadd_starts_by_chance() -> None:
    """It is no part of an action, unless that is about kernel threads."""
    way = (
        (0, A_TASK, F), (0, KTHREADD, FORK), (0, A_TASK, Place.A_END), (0, KTHREADD, Place.E_END),
    )  # fmt: skip
    assert traced(Guest(*way), "disable") == ("f",)
    assert traced(Guest(*way), "kthread") == ("f", "copy_process@any")


def test_calls_of_a_finding() -> None:
    """In their order, by A, by B and by others; a function that comes too often is left out."""
    guest = Guest(
        (0, A_TASK, F), (1, B_TASK, Place.B_BEGIN), (1, B_TASK, G), (0, WORKER, OTHER),
        *[(1, B_TASK, G)] * 5, (0, A_TASK, OTHER),
    )  # fmt: skip
    recorder = CallRecorder(cast("Any", guest), ENTRIES)
    guest.run_until(lambda _: True, 1)
    recorder.hold()
    guest.run_until(lambda _: False, 1)
    assert [(call.by, call.function) for call in recorder.calls] == [
        *[("A", "f"), ("B", "g"), ("other", "other")],
        *[("B", "g"), ("B", "g"), ("A", "other")],
    ]
    assert recorder.before == 1
    recorder.end()
    assert not guest.breakpoints
    guest.on_stop(Stop(0))
    assert len(recorder.calls) == 6
