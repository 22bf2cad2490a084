# SPDX-License-Identifier: GPL-2.0-only
"""One guest under the gdb server: A on CPU 0 stands at a point while B on CPU 1 goes on.

A CPU that gdb stops answers no interrupt, and whoever sends it one waits at once. So the CPU that
is held is sent round a loop of two instructions, in padding between functions; all else is as at
the point: it takes interrupts, if they are on there, and is otherwise merely slow. What is shown
in this way can happen on hardware.
"""

from __future__ import annotations

import time
from itertools import chain, repeat
from typing import TYPE_CHECKING

from harness.errors import GuestStarved, HarnessError
from harness.observer.shared_file import count_events
from harness.tools.race.explore.duel import A_NAME, B_NAME, Place, Word
from harness.tools.race.explore.locks import awaited_lock, name_offset
from harness.tools.race.explore.looks import slices
from harness.tools.race.explore.running import INTERRUPTS, A, B, RunningGuest
from harness.tools.race.explore.waiting import AWAITS_IPI, IDLE, WAITS
from harness.tools.race.explore.watched import BEGIN, WAIT, KcsanWatch
from harness.vm.guest.gdb_client import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from harness.tools.race.explore.points import Point

BLOCKED = "blocked"
"""How what B is said to be begins, when it waits for what A has."""
_LOOP = bytes.fromhex("f390ebfc")  # 1: pause; jmp 1b
_LOOP_STEPS = (0, 2)
_RETRIES = 4
# For how long B goes on before each look at it.
_SLICES_S = (0.002, 0.004, 0.008)
# Where A can be preempted, B's waits for all CPUs end while A is held, and these take long.
_PREEMPTS_SLICES_S = (0.04,)
_LOOKS = 4
_LEAST_SHARE = 0.2
# A host that gives the guest no CPU is waited for up to so many times as long.
_MOST_PATIENCE = 6
_POINT_S, _ANY_S, _CHECK_S = 10.0, 2.5, 1.0
_A_ALONE_S = 0.5
_B_S = 1.0
_OFF_S = 4.0
# RCU complains after 21 s of a CPU that does not leave the kernel.
_WALK_S = 5.0
_WORD = 8
# What an interrupt in the kernel pushes: ss, rsp, rflags, cs, rip; rip lies lowest.
_FRAME = 5 * _WORD
_CALL_SIZE = 5


class NotReached(Exception):
    """A has ended, or its time is up, and it has not passed the point."""


class HeldGuest(RunningGuest):
    """One in which A stands at a point, and B acts meanwhile."""

    _watch: KcsanWatch | None = None

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
        if self.observed is not None:
            self.armed_event = count_events(self.observed)
        self.duel.set(Word.ARM, 2 if with_hog else 1)
        for word in (Word.A_READY, Word.B_READY):
            if not self.await_word(word, 1, self.scaled(10)):
                raise GuestStarved("A and B did not get ready in time")

    def begin_a(self, steps: int) -> None:
        """Let A begin when the guest goes on, and note which task it is."""
        for slice_s in slices(self.scaled(_POINT_S)):
            if Place.A_WAIT <= self.gdb.pc(A) < Place.A_WAIT + Place.SIZE:
                break
            self.run_for(slice_s)
        else:
            raise GuestStarved("A did not wait for its beginning in time")
        self._a_task = self.task(A)
        if self.round == 1:
            self.scene.name_at = name_offset(self.gdb, self._a_task, A_NAME, A)
            self._check_unserved()
        self.duel.set(Word.A_GO, steps)

    def _check_unserved(self) -> None:
        """Look whether breakpoints stay when the gdb server is closed; A waits at this one."""
        run = self._unserved.run({Place.A_WAIT}, Word.A_DONE, 1, self.scaled(_CHECK_S))
        self.scene.unserved_works = run

    def to_point(self, point: Point, steps: int) -> None:
        """Run until A is at a point, in so many steps, or its worker is. Raises NotReached."""
        gdb, places = self.gdb, self._code.addresses(point.place)
        seen = 0

        def is_for_worker() -> bool:
            """Return whether a worker goes on with what A itself may end, or leave to it.

            A's first step is what it leaves to workers; its others are waits for these.
            """
            return self.has_workers and self.duel.get(Word.A_DONE) >= 1

        def wanted(stop: Stop) -> bool:
            nonlocal seen
            at_place = stop.cpu == A and gdb.pc(A) in places
            if at_place and (point.by_any or self.is_a() or is_for_worker()):
                seen += 1
                return seen == point.nth
            return False

        if gdb.pc(A) in places:
            gdb.step(A)
        stop = None
        if not point.by_any:
            stop = self._run_to(places, wanted, Word.A_DONE, steps, _POINT_S)
        if stop is None and self.leaves:
            stop = self.run_to_end_of_a(wanted, places)
        if stop is None and (point.by_any or self.has_workers):
            self.duel.set(Word.RETRY_GO, _RETRIES)
            stop = self._run_to(places, wanted, Word.E_DONE, 1, _ANY_S)
            self.duel.set(Word.RETRY_GO, 0)
        if stop is None:
            raise NotReached(str(point))
        if point.watched:
            self._to_watch(steps)

    def _to_watch(self, steps: int) -> None:
        """Run until KCSAN watches the access that A is about to make. Raises NotReached."""
        gdb, waits = self.gdb, self._code.addresses(WAIT)
        begins, behind = self._code.addresses(BEGIN), gdb.pc(A) + _CALL_SIZE
        watch = KcsanWatch(self, self._code)
        watch.begin()
        # What an interrupt accesses would be watched otherwise. KCSAN saves the flags, and restores
        # them at its end.
        had_interrupts = gdb.registers(A)["eflags"] & INTERRUPTS
        gdb.set_flags(A, gdb.registers(A)["eflags"] & ~INTERRUPTS)

        def wanted(stop: Stop) -> bool:
            return stop.cpu == A

        stop = self._run_to({*begins, behind}, wanted, Word.A_DONE, steps, _CHECK_S)
        watch.hold()
        gdb.set_flags(A, gdb.registers(A)["eflags"] | had_interrupts)
        if stop is not None and gdb.pc(A) in begins:
            stop = self._run_to({*waits, behind}, wanted, Word.A_DONE, steps, _CHECK_S)
        if stop is None or gdb.pc(A) not in waits:
            watch.end()
            raise NotReached("KCSAN does not watch that access")
        watch.hold()
        self._watch = watch

    def _run_to(
        self,
        places: Collection[int],
        wanted: Callable[[Stop], bool],
        word: int,
        least: int,
        seconds: float,
    ) -> Stop | None:
        """Run until a CPU is at a place, and that is what is wanted.

        None when a number of klp-duel's is large enough, or the time is up. After the first stop
        that is not wanted, the gdb server stays open.
        """
        if self.scene.unserved_works and not self.is_followed:
            if not self._unserved.run(places, word, least, self.scaled(seconds)):
                return None
            for cpu in (A, B):
                if self.gdb.pc(cpu) in places:
                    if wanted(Stop(cpu)):
                        return Stop(cpu)
                    self.gdb.step(cpu)
        return self.run_to(places, wanted, lambda: self.duel.get(word) >= least, seconds)

    # B while A is held

    def b_alone(self, steps: int, *, until: Point | None = None, a: int = 0) -> str:
        """Let B do steps while A stands still; return ``done``, or where B is blocked.

        ``until``: B is held there in its turn, and A goes on alone to the end of its ``a`` steps.
        """
        gdb = self.gdb
        self.duel.set(Word.HELD, 1)
        self.duel.set(Word.B_GO, steps)
        held = gdb.pc(A)
        waits = self._waits()
        places = self._code.addresses(until.place) if until is not None else frozenset()
        loop = self._send_to_loop(A, held)
        said = self._watch_b(steps, places, until.nth if until is not None else 1, waits)
        if self._watch is not None:
            self._watch.end()
        self._leave_loop(A, loop, held)
        if said == "held":
            said = f"held, and A {self._a_alone(a)}"
        return said

    def still_blocked(
        self, points: Sequence[Point], steps: int, clear: Callable[[int], int]
    ) -> int:
        """Let A, which has so many steps, go on; return how many points would show the same.

        There B waits for the same lock of A's, in its first step, A's CPU answers others as
        before, and A has touched no memory of what B does before: ``clear`` returns at how many of
        the points, by the lock's address. It ends early rather than take long.
        """
        count = 0
        lock = None if self.duel.get(Word.B_DONE) else self._awaited()
        if lock is None:
            return count
        end_s, serves = self._ran_s + _WALK_S, self.serves()
        for point in points[: clear(lock)]:
            if point.by_any or self._ran_s > end_s:
                break
            try:
                self.to_point(point, steps)
            except NotReached:
                break
            if self.serves() != serves or self._awaited() != lock:
                break
            count += 1
        return count

    def _awaited(self) -> int | None:
        b_runs = self._is_b(self.task(B))
        return awaited_lock(self.gdb, self._code, self._a_task, A, is_b=self._is_b, b_runs=b_runs)

    def _is_b(self, task: int) -> bool:
        at = self.scene.name_at
        return at is not None and self.gdb.read(task + at, len(B_NAME), A) == B_NAME

    def _waits(self) -> Collection[str]:
        """Return the functions in which B is blocked, by whether A's CPU takes interrupts."""
        serves = bool(self.gdb.registers(A)["eflags"] & INTERRUPTS)
        return WAITS if serves else WAITS | AWAITS_IPI

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

    def _a_alone(self, steps: int) -> str:
        """Hold B where it is, and let A go on to its end."""
        held = self.gdb.pc(B)
        loop = self._send_to_loop(B, held)
        is_done = self.await_word(Word.A_DONE, steps, self.scaled(_A_ALONE_S))
        where = self._code.where(self.gdb.pc(A))
        self._leave_loop(B, loop, held)
        return "done" if is_done else f"in {where}"

    def _watch_b(
        self,
        steps: int,
        places: Collection[int],
        nth: int,
        waits: Collection[str],
        *,
        seconds: float = _B_S,
    ) -> str:
        gdb, seen = self.gdb, 0
        slices_s = _PREEMPTS_SLICES_S if self._code.preempts else _SLICES_S

        def wanted(stop: Stop) -> bool:
            nonlocal seen
            if stop.cpu != B:
                return False
            if gdb.pc(B) in places:
                seen += 1
                return seen == nth
            return False

        self.set_breakpoints(places)
        try:
            looks: list[str] = []
            may_run = self._while_it_may_run(self.scaled(seconds) * self.patience)
            for before_s, slice_s in zip(
                may_run, chain(slices_s, repeat(slices_s[-1])), strict=False
            ):
                if self.run_until(wanted, slice_s) is not None:
                    return "held"
                if self.duel.get(Word.B_DONE) >= steps:
                    return "done"
                if self._hypervisor.cpu_s() - before_s < slice_s * _LEAST_SHARE:
                    continue  # the host gave it no time
                looks.append(self._code.function_at(gdb.pc(B)))
                if len(looks) >= _LOOKS and all(each in waits for each in looks[-_LOOKS:]):
                    where = ": it sleeps" if looks[-1] in IDLE else f" in {looks[-1]}"
                    return f"{BLOCKED}{where}"
            return f"running in {looks[-1] if looks else 'user mode'}"
        finally:
            self._clear_breakpoints(places)

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
