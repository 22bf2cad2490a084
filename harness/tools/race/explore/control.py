# SPDX-License-Identifier: GPL-2.0-only
"""One guest under the gdb server: A on CPU 0 stands at a point while B on CPU 1 goes on.

A CPU that gdb stops answers no interrupt, and whoever sends it one waits at once. So the CPU that
is held is sent round a loop of two instructions, in padding between functions; all else is as at
the point: it takes interrupts, if they are on there, and is otherwise merely slow. What is shown
in this way can happen on hardware.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.errors import GuestStarved, HarnessError
from harness.tools.race.explore.duel import Duel, Place, Word
from harness.tools.race.explore.waiting import AWAITS_IPI, IDLE, WAITS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from harness.observer.accesses import AccessFile
    from harness.tools.race.explore.points import Point
    from harness.tools.race.explore.scene import Scene
    from harness.vm.guest.gdb_client import GdbClient, Stop
    from harness.vm.guest.hypervisor import Hypervisor

A, B = 0, 1
BLOCKED = "blocked"
"""How what B is said to be begins, when it waits for what A has."""
_LOOP = bytes.fromhex("f390ebfc")  # 1: pause; jmp 1b
_LOOP_STEPS = (0, 2)
_INTERRUPTS = 1 << 9
_POLL_S = 0.02
_LONG_POLL_S = 0.5
_PLACES = {
    Word.A_DONE: Place.A_END,
    Word.B_DONE: Place.B_END,
    Word.E_DONE: Place.E_END,
    Word.SETTLE_DONE: Place.E_END,
}
_SLICE_S = 0.025
_LEAST_S = 0.005  # of CPU time
_LOOKS = 4
# A host that gives the guest no CPU is waited for up to so many times as long.
_MOST_PATIENCE = 6
_ANY_S = 4.0
_A_ALONE_S = 0.5
_B_S = 1.0
_OFF_S = 4.0
# RCU complains after 21 s of a CPU that does not leave the kernel.
_WALK_S = 5.0
_WORD = 8
# What an interrupt in the kernel pushes: ss, rsp, rflags, cs, rip; rip lies lowest.
_FRAME = 5 * _WORD


class NotReached(Exception):
    """A has ended, or its time is up, and it has not passed the point."""


class HeldGuest:
    """A guest that stands still whenever no method of this object runs."""

    def __init__(
        self, scene: Scene, gdb: GdbClient, hypervisor: Hypervisor, *, time_scale: float
    ) -> None:
        self.scene = scene
        self.gdb = gdb
        self.duel = Duel(gdb, scene.pages)
        self._code = scene.code
        self._hypervisor = hypervisor
        self._scale = time_scale
        self._current = scene.code.percpu("current_task", "pcpu_hot")
        self._a_task = 0
        self.accesses: AccessFile | None = None
        """What the guest reads and writes, when that is noted."""
        self.on_stop: Callable[[Stop], None] = lambda _: None
        # Who stops the guest again and again lets B have more time.
        self.patience = 1

    @property
    def observed(self) -> Path | None:
        """What QEMU's plugin has written, if the guest has one."""
        return self._hypervisor.observed

    def scaled(self, seconds: float) -> float:
        """Return how long something may take here that takes so many seconds on hardware."""
        return seconds * self._scale

    def run_until(self, wanted: Callable[[Stop], bool], seconds: float) -> Stop | None:
        """Run until a breakpoint is what is wanted; None when the time is up."""
        end_s = time.monotonic() + seconds
        while True:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return None
            self.gdb.go()
            stop = self.gdb.wait(left_s) or self.gdb.halt()
            if stop.cpu is None:
                return None
            self.on_stop(stop)
            if wanted(stop):
                return stop
            self.gdb.step(stop.cpu)

    def run_for(self, seconds: float) -> None:
        """Let all CPUs go on."""
        self.run_until(lambda _: False, seconds)

    def await_word(self, word: int, least: int, seconds: float) -> bool:
        """Let all CPUs go on until a number of klp-duel's is large enough.

        Return whether it is: not after a splat, or when the time is up.
        """
        place = _PLACES.get(word)
        slice_s = _POLL_S if place is None else _LONG_POLL_S
        end_s = time.monotonic() + seconds
        if place is not None:
            self.gdb.set_breakpoint(place)
        while (is_short := self.duel.get(word) < least) and not self._has_failed():
            if time.monotonic() > end_s:
                break
            self.run_until(
                lambda stop: self.gdb.pc(stop.cpu or 0) == place and self.duel.get(word) >= least,
                slice_s,
            )
        if place is not None:
            self.gdb.clear_breakpoint(place)
        return not is_short

    def settle(self, seconds: float) -> bool:
        """Let all go on until no transition is open; return whether that has come in time."""
        times = self.duel.get(Word.SETTLE_GO) + 1
        self.duel.set(Word.SETTLE_GO, times)
        return self.await_word(Word.SETTLE_DONE, times, seconds)

    # A at its beginning, and at a point

    def arm(
        self,
        a: tuple[str, ...],
        b: tuple[str, ...],
        after: tuple[str, ...],
        *,
        with_hog: bool = False,
    ) -> None:
        """Have A and B wait in user mode, each on its CPU, for their first step.

        ``with_hog``: A can be scheduled out.
        """
        self.duel.order(a, b, after)
        self.duel.set(Word.ARM, 2 if with_hog else 1)
        for word in (Word.A_READY, Word.B_READY):
            if not self.await_word(word, 1, self.scaled(10)):
                raise GuestStarved("A and B did not get ready in time")

    def begin_a(self, steps: int) -> None:
        """Let A begin, and stop it before its first step."""
        self.duel.set(Word.A_GO, steps)
        self.gdb.set_breakpoint(Place.A_BEGIN)
        stop = self.run_until(lambda stop: self.gdb.pc(stop.cpu or 0) == Place.A_BEGIN, 30)
        if stop is None:
            raise GuestStarved("A did not begin in time")
        if stop.cpu != A:
            raise HarnessError(f"A began on CPU {stop.cpu}")
        self._a_task = self.task(A)
        self.gdb.clear_breakpoint(Place.A_BEGIN)

    def to_point(self, point: Point, steps: int) -> None:
        """Run until A is at a point, in so many steps. Raises NotReached."""
        gdb, places = self.gdb, self._code.addresses(point.place)
        seen = 0

        def wanted(stop: Stop) -> bool:
            nonlocal seen
            pc = gdb.pc(stop.cpu or 0)
            if pc == Place.A_END:
                return not point.by_any and self.duel.get(Word.A_DONE) >= steps
            if stop.cpu == A and pc in places and (point.by_any or self.is_a()):
                seen += 1
                return seen == point.nth
            return False

        if gdb.pc(A) in places:
            gdb.step(A)
        self.set_breakpoints({*places, Place.A_END})
        stop = self.run_until(wanted, self.scaled(_ANY_S) if point.by_any else self.scaled(10))
        self._clear_breakpoints({*places, Place.A_END})
        if stop is None or gdb.pc(A) not in places:
            raise NotReached(str(point))

    def is_a(self) -> bool:
        """Return whether CPU 0 executes A's task."""
        return self.is_a_task(self.task(A))

    def is_a_task(self, task: int) -> bool:
        """Return whether a task is A's."""
        return task == self._a_task

    def task(self, cpu: int) -> int:
        """Return the address of the task that a CPU executes."""
        registers = self.gdb.registers(cpu)
        in_kernel = registers["rip"] >> 63
        base = registers["gs_base"] if in_kernel else registers["k_gs_base"]
        address = (base + self._current) & ((1 << 64) - 1)
        return int.from_bytes(self.gdb.read(address, _WORD, cpu), "little")

    # B while A is held

    def b_alone(self, steps: int, *, until: Point | None = None) -> str:
        """Let B do steps while A stands still; return ``done``, or where B is blocked.

        ``until``: B is held there in its turn, and A goes on alone to its end.
        """
        gdb = self.gdb
        self.duel.set(Word.B_GO, steps)
        held = gdb.pc(A)
        serves = bool(gdb.registers(A)["eflags"] & _INTERRUPTS)
        waits = WAITS if serves else WAITS | AWAITS_IPI
        places = self._code.addresses(until.place) if until is not None else frozenset()
        loop = self._send_to_loop(A, held)
        said = self._watch_b(steps, places, until.nth if until is not None else 1, waits)
        self._leave_loop(A, loop, held)
        if said == "held":
            said = f"held, and A {self._a_alone()}"
        return said

    def still_blocked(self, points: Iterable[Point], said: str, a: int, b: int) -> int:
        """Let A go on from point to point; return at how many B is still blocked as it was.

        ``a`` and ``b`` are the numbers of their steps. It ends early rather than take long.
        """
        count = 0
        end_s = time.monotonic() + _WALK_S
        for point in points:
            if point.by_any or time.monotonic() > end_s:
                break
            try:
                self.to_point(point, a)
            except NotReached:
                break
            if self.duel.get(Word.B_DONE) >= b or self.b_alone(b) != said:
                break
            count += 1
        return count

    def b_while_a_is_off(self, steps: int) -> str:
        """Let B do steps while A is scheduled out where it is; return what `b_alone` does.

        An interrupt takes the CPU from A in the loop, for a task of a higher priority; then the
        address to which A returns is set to the point, as if the interrupt had come there. Raises
        NotReached where preemption is off.
        """
        gdb = self.gdb
        at, stack = gdb.pc(A), gdb.sp(A)
        frame = (stack & ~0xF) - _FRAME
        loop = self._send_to_loop(A, at)
        self.duel.set(Word.HOG, 1)
        gdb.set_breakpoint(Place.HOG)
        stop = self.run_until(lambda stop: gdb.pc(stop.cpu or 0) == Place.HOG, self.scaled(1))
        gdb.clear_breakpoint(Place.HOG)
        saved = int.from_bytes(gdb.read(frame, _WORD, A), "little") if stop is not None else 0
        if saved not in self._in_loop(loop):
            self._leave_loop(A, loop, at)
            self.duel.set(Word.HOG, 0)
            raise NotReached("preemption is off there")
        gdb.write(frame, at.to_bytes(_WORD, "little"), A)
        self.duel.set(Word.B_GO, steps)
        # Transitions go on meanwhile, and the kernel tries each again after a second.
        said = self._watch_b(steps, (), 1, (), seconds=_OFF_S)
        self.duel.set(Word.HOG, 0)
        return said

    def _a_alone(self) -> str:
        """Hold B where it is, and let A go on to its end."""
        gdb = self.gdb
        held = gdb.pc(B)
        loop = self._send_to_loop(B, held)
        gdb.set_breakpoint(Place.A_END)
        stop = self.run_until(
            lambda stop: stop.cpu == A and gdb.pc(A) == Place.A_END, self.scaled(_A_ALONE_S)
        )
        gdb.clear_breakpoint(Place.A_END)
        where = self._code.where(gdb.pc(A))
        self._leave_loop(B, loop, held)
        return "done" if stop is not None else f"in {where}"

    def _watch_b(
        self,
        steps: int,
        places: Collection[int],
        nth: int,
        waits: Collection[str],
        *,
        seconds: float = _B_S,
    ) -> str:
        gdb = self.gdb
        seen = 0

        def wanted(stop: Stop) -> bool:
            nonlocal seen
            if stop.cpu != B:
                return False
            pc = gdb.pc(B)
            if pc in places:
                seen += 1
                return seen == nth
            return pc == Place.B_END and self.duel.get(Word.B_DONE) >= steps

        breakpoints = {*places, Place.B_END}
        self.set_breakpoints(breakpoints)
        try:
            looks: list[str] = []
            for before_s in self._while_it_may_run(self.scaled(seconds) * self.patience):
                if self.run_until(wanted, _SLICE_S) is not None:
                    return "held" if gdb.pc(B) in places else "done"
                if self._hypervisor.cpu_s() - before_s < _LEAST_S:
                    continue  # the host gave it no time
                looks.append(self._code.function_at(gdb.pc(B)))
                if len(looks) >= _LOOKS and all(each in waits for each in looks[-_LOOKS:]):
                    where = ": it sleeps" if looks[-1] in IDLE else f" in {looks[-1]}"
                    return f"{BLOCKED}{where}"
            return f"running in {looks[-1] if looks else 'user mode'}"
        finally:
            self._clear_breakpoints(breakpoints)

    def _while_it_may_run(self, seconds: float) -> Iterator[float]:
        """Yield QEMU's CPU time so far until the host has let the guest run for so many seconds."""
        start_s = time.monotonic()
        while time.monotonic() - start_s < seconds * _MOST_PATIENCE:
            if self._hypervisor.could_run_s(start_s) >= seconds:
                return
            yield self._hypervisor.cpu_s()

    def park(self, cpu: int) -> None:
        """Leave a CPU in the loop, with all else as it was."""
        self._send_to_loop(cpu, self.gdb.pc(cpu))

    def _send_to_loop(self, cpu: int, pc: int) -> int:
        """Send a CPU that is at this address round the loop; return the loop's address."""
        if not pc >> 63:
            self.gdb.set_pc(cpu, Place.SPIN)
            return Place.SPIN
        self.gdb.write(self.scene.spin, _LOOP, cpu)
        self.gdb.set_pc(cpu, self.scene.spin)
        return self.scene.spin

    def _in_loop(self, loop: int) -> tuple[int, ...]:
        return tuple(loop + step for step in _LOOP_STEPS)

    def _leave_loop(self, cpu: int, loop: int, held: int) -> None:
        """Let a CPU go on where it was held, once it is in no interrupt."""
        if self.gdb.pc(cpu) not in self._in_loop(loop):
            self._await_loop(cpu, loop)
        self.gdb.set_pc(cpu, held)

    def _await_loop(self, cpu: int, loop: int) -> None:
        self.gdb.set_breakpoint(loop)
        stop = self.run_until(
            lambda stop: stop.cpu == cpu and self.gdb.pc(cpu) == loop, self.scaled(5)
        )
        self.gdb.clear_breakpoint(loop)
        if stop is None:
            where = self._code.where(self.gdb.pc(cpu))
            raise HarnessError(f"CPU {cpu}, which was held, does not come back from {where}")

    def set_breakpoints(self, addresses: Iterable[int]) -> None:
        """Have CPUs stop at all of these."""
        for address in addresses:
            self.gdb.set_breakpoint(address)

    def _clear_breakpoints(self, addresses: Collection[int]) -> None:
        for address in addresses:
            self.gdb.clear_breakpoint(address)

    def _has_failed(self) -> bool:
        return bool(self._hypervisor.unexpected_splats())
