# SPDX-License-Identifier: GPL-2.0-only
"""How a guest is let run until something, without a guest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.errors import HarnessError, QemuFailed
from harness.tools.race.explore import control
from harness.tools.race.explore.control import BLOCKED, HeldGuest, NotReached
from harness.tools.race.explore.duel import A_NAME, B_NAME, DuelPages, Place, Word
from harness.tools.race.explore.points import parse_hold
from harness.tools.race.explore.running import A, B
from harness.vm.guest.gdb_client import Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.deadline import Deadline
    from harness.tools.race.explore.points import Point

POINT = 0xFFFFFFFF81000100
A_TASK, WORKER = 0x1000, 0x2000
BEGINS, WATCHED, INTERRUPTS = POINT + 0x1000, POINT + 0x1040, 0x200
PLACES = {
    ("kcsan_setup_watchpoint", None): BEGINS,
    ("kcsan_setup_watchpoint", "__udelay"): WATCHED,
}
ENABLED, SKIP, SPIN = 0x500, 0x600, 0x700
PAGES = DuelPages(0, 4096, 8192)


class Guest:
    """Runs what a test says, a step each time that it goes on; it is QEMU in all its parts."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self.steps = list(steps)
        self.words: dict[int, int] = {}
        self.pcs = {A: Place.A_WAIT, B: 0}
        self.current = A_TASK
        self.breakpoints: set[int] = set()
        self.is_open, self.is_running = True, False
        self.opened = 0
        self.observed = None
        self.stepped: list[int] = []
        self.flags = INTERRUPTS
        self.memory: dict[tuple[int, int], int] = {}
        self.answer: str | None = None
        self.has_splat = False
        self.waited_s: list[float] = []
        self.used_s = 0.0
        self.events = SimpleNamespace(wait=lambda *_: self._go_on())

    def _go_on(self) -> None:
        if self.steps:
            self.steps.pop(0)()

    # The gdb server and its client

    def go(self) -> None:
        assert self.is_open
        self._go_on()

    def wait(self, timeout_s: float) -> Stop | None:
        self.waited_s.append(timeout_s)
        self.used_s += timeout_s
        return self._stop()

    def halt(self) -> Stop:
        return self._stop() or Stop(None)

    def _stop(self) -> Stop | None:
        return next((Stop(cpu) for cpu, pc in self.pcs.items() if pc in self.breakpoints), None)

    def step(self, cpu: int) -> None:
        self.stepped.append(cpu)
        self.pcs[cpu] += 1

    def pc(self, cpu: int) -> int:
        assert self.is_open
        return self.pcs[cpu]

    def registers(self, cpu: int) -> dict[str, int]:
        return {"rip": self.pcs[cpu], "gs_base": 0, "k_gs_base": 0, "eflags": self.flags}

    def read(self, address: int, size: int, cpu: int) -> bytes:
        return self.current.to_bytes(size, "little")

    def set_pc(self, cpu: int, address: int) -> None:
        self.pcs[cpu] = address

    def set_flags(self, cpu: int, flags: int) -> None:
        self.flags = flags

    def write(self, address: int, data: bytes, cpu: int) -> None:
        self.memory[address, cpu] = int.from_bytes(data, "little")

    def set_breakpoint(self, address: int) -> None:
        self.breakpoints.add(address)

    def clear_breakpoint(self, address: int) -> None:
        self.breakpoints.remove(address)

    def read_physical(self, address: int, size: int) -> bytes:
        assert self.is_open
        return self.words.get(address, 0).to_bytes(size, "little")

    def write_physical(self, address: int, data: bytes) -> None:
        self.words[address] = int.from_bytes(data, "little")

    def open(self, deadline: Deadline) -> object:
        assert not self.is_running
        self.is_open, self.opened = True, self.opened + 1
        return object()

    def close(self, deadline: Deadline) -> None:
        self.is_open = False

    def connect(self, sock: object) -> None:
        assert self.is_open

    # The monitor

    @property
    def monitor(self) -> Guest:
        return self

    def execute(self, command: str, *, deadline: Deadline) -> None:
        self.is_running = command == "cont"

    def status(self, *, deadline: Deadline) -> str:
        if self._stop() is not None:
            self.is_running = False
            return "debug"
        return "running" if self.is_running else "paused"

    def human(self, command: str, *, deadline: Deadline) -> str:
        if self.answer is not None:
            return self.answer
        number = self.words.get(int(command.split()[-1], 16), 0)
        return f"0000000000001000: 0x{number:016x}"

    def unexpected_splats(self) -> list[object]:
        return [object()] if self.has_splat else []

    def cpu_s(self) -> float:
        return self.used_s

    def could_run_s(self, _: float) -> float:
        return 0.0


def held(guest: Guest, *, unserved: bool = True, workers: bool = False) -> HeldGuest:
    code = SimpleNamespace(
        percpu=lambda name, *_: SKIP if name == "kcsan_skip" else 0, symbol=lambda _: ENABLED,
        addresses=lambda place: frozenset({PLACES.get((place.function, place.callee), POINT)}),
        where=hex, function_at=hex, preempts=False, has=lambda _: True,
    )  # fmt: skip
    scene = cast("Any", SimpleNamespace(pages=PAGES, code=code))
    scene.unserved_works, scene.files, scene.spin = unserved, {}, SPIN
    scene.name_at = None
    found = HeldGuest(
        scene, cast("Any", guest), cast("Any", guest), cast("Any", guest), time_scale=0.05
    )
    found.round = 2
    found.begin_a(1)
    found.has_workers = workers
    return found


def at_point(guest: Guest, task: int = A_TASK, cpu: int = A) -> Callable[[], None]:
    def step() -> None:
        guest.pcs[cpu], guest.current = POINT, task

    return step


def done(guest: Guest) -> Callable[[], None]:
    def step() -> None:
        guest.words[Word.A_DONE] = 1

    return step


def nothing() -> None:
    """Let time pass."""


def point() -> Point:
    return parse_hold("f").a


@pytest.mark.parametrize("unserved", [True, False])
def test_a_comes_to_a_point(*, unserved: bool) -> None:
    """With the gdb server closed meanwhile, where QEMU stops at breakpoints all the same."""
    guest = Guest(nothing)
    of_guest = held(guest, unserved=unserved)
    guest.steps = [nothing, nothing, at_point(guest)]
    of_guest.to_point(point(), 1)
    assert (guest.opened, guest.is_running) == (int(unserved), False)
    assert not guest.breakpoints


@pytest.mark.parametrize("unserved", [True, False])
def test_a_ends_without_passing_the_point(*, unserved: bool) -> None:
    """That is known at once, and no breakpoint stays."""
    guest = Guest()
    of_guest = held(guest, unserved=unserved)
    guest.steps = [nothing, done(guest)]
    with pytest.raises(NotReached):
        of_guest.to_point(point(), 1)
    assert guest.is_open
    assert not guest.is_running
    assert not guest.breakpoints


@pytest.mark.parametrize("unserved", [True, False])
def test_another_task_passes_the_point_first(*, unserved: bool) -> None:
    """On A's CPU, or on the other one: it goes on, and A is waited for."""
    guest = Guest()
    of_guest = held(guest, unserved=unserved)

    def later() -> None:
        guest.pcs[B] = 0
        at_point(guest)()

    guest.steps = [at_point(guest, WORKER, B), nothing, later]
    of_guest.to_point(point(), 1)
    assert guest.stepped == [B]
    assert not guest.breakpoints


def test_a_worker_goes_on_with_what_a_has_begun() -> None:
    """Of some actions it ends what A itself may end, and is held in A's place; not of others."""
    for workers in (True, False):
        guest = Guest()
        of_guest = held(guest, workers=workers)
        retries: list[int] = []

        def retried(guest: Guest = guest, retries: list[int] = retries) -> None:
            retries.append(guest.words[Word.RETRY_GO])
            at_point(guest, WORKER)()

        guest.steps = [done(guest), nothing, nothing, retried]
        if workers:
            of_guest.to_point(point(), 1)
            assert retries[0]
            assert not guest.words[Word.RETRY_GO]
        else:
            with pytest.raises(NotReached):
                of_guest.to_point(point(), 1)
            assert not retries


def test_a_worker_ends_what_the_first_of_two_steps_has_begun() -> None:
    """While A waits for it in its second one."""
    guest = Guest()
    of_guest = held(guest, workers=True)
    guest.steps = [done(guest), nothing, at_point(guest, WORKER)]
    of_guest.to_point(point(), 2)
    assert Word.RETRY_GO not in guest.words


def at_access(guest: Guest, place: int) -> Callable[[], None]:
    def step() -> None:
        assert not guest.flags & INTERRUPTS
        assert guest.memory[ENABLED, A]
        assert guest.memory[SKIP, A] == 0
        assert guest.memory[SKIP, B] > 1 << 30
        guest.pcs[A] = place

    return step


def at_wait(guest: Guest) -> Callable[[], None]:
    def step() -> None:
        assert guest.flags & INTERRUPTS  # KCSAN saves the flags before
        assert guest.memory[SKIP, A] > 1 << 30
        guest.memory[SKIP, A] = 4000  # and begins to count again
        guest.pcs[A] = WATCHED

    return step


@pytest.mark.parametrize("unserved", [True, False])
def test_an_access_that_kcsan_watches(*, unserved: bool) -> None:
    """A goes on into KCSAN, which watches this access and no other one: not of an interrupt."""
    guest = Guest()
    of_guest = held(guest, unserved=unserved)
    guest.steps = [at_point(guest), nothing, at_access(guest, BEGINS), at_wait(guest)]
    of_guest.to_point(parse_hold("f+0x4@watched").a, 1)
    assert guest.pcs[A] == WATCHED
    assert guest.memory[SKIP, A] > 1 << 30
    assert guest.memory[ENABLED, A]
    assert guest.flags & INTERRUPTS
    guest.words[Word.B_DONE] = 1
    of_guest.b_alone(1)
    assert guest.words[Word.HELD]
    assert not guest.memory[ENABLED, A]
    assert not guest.breakpoints


def test_an_access_that_kcsan_does_not_watch() -> None:
    """The call for it is over, and A is not held."""
    guest = Guest()
    of_guest = held(guest)
    guest.steps = [at_point(guest), at_access(guest, POINT + 5)]
    with pytest.raises(NotReached):
        of_guest.to_point(parse_hold("f+0x4@watched").a, 1)
    assert not guest.memory[ENABLED, A]
    assert guest.flags & INTERRUPTS
    assert not guest.breakpoints


@pytest.mark.parametrize(
    ("preempts", "least_s"), [(False, [0.002, 0.004, 0.008, 0.008]), (True, [0.04] * 4)]
)
def test_how_long_b_has_until_it_is_blocked(*, preempts: bool, least_s: list[float]) -> None:
    """Where A can be preempted, its CPU answers those that wait for all CPUs, and B goes on."""
    guest = Guest()
    of_guest = held(guest)
    code = cast("Any", of_guest.scene.code)
    code.preempts, code.function_at = preempts, lambda _: "pv_native_safe_halt"
    guest.waited_s.clear()
    assert of_guest.b_alone(1).startswith(BLOCKED)
    assert guest.waited_s == pytest.approx(least_s, abs=0.001)


def test_b_is_not_blocked_while_the_host_gives_it_no_time() -> None:
    """It is looked at again."""
    guest = Guest()
    of_guest = held(guest)
    cast("Any", of_guest.scene.code).function_at = lambda _: "pv_native_safe_halt"
    guest.cpu_s = lambda: 0.0  # type: ignore[method-assign]
    assert of_guest.b_alone(1).startswith("running in")


def waiting(of_guest: HeldGuest, monkeypatch: pytest.MonkeyPatch, *locks: int | None) -> list[str]:
    """Have somebody wait for these locks of A's, one after the other."""
    left = list(locks)
    monkeypatch.setattr(control, "awaited_lock", lambda *_, **__: left.pop(0))
    monkeypatch.setattr(of_guest, "to_point", lambda point, _: passed.append(str(point)))
    passed: list[str] = []
    return passed


FOUR = [parse_hold(name).a for name in ("f", "g", "h", "i")]


@pytest.mark.parametrize(
    ("locks", "clear", "count", "passed"),
    [
        ((5, 5, 5, 5, 5), 4, 4, 4),
        ((5, 5, 5), 2, 2, 2),
        ((5, 5, 6), 4, 1, 2),
        ((5, 5, None), 4, 1, 2),
        ((5,), 0, 0, 0),
        ((None,), 4, 0, 0),
    ],
)
def test_points_at_which_b_would_wait_too(
    locks: tuple[int | None, ...],
    clear: int,
    count: int,
    passed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is the same lock, and as far as A touches nothing of B's."""
    of_guest = held(Guest())
    went = waiting(of_guest, monkeypatch, *locks)
    assert of_guest.still_blocked(FOUR, 1, lambda lock: clear if lock == 5 else 0) == count
    assert len(went) == passed


def test_who_waits_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where names are is found in A, which has its own then; without that nobody is known as B."""
    guest = Guest()
    of_guest = held(guest)
    names = {A_TASK: A_NAME, WORKER: b"kworker/1:1\0"}
    at = 0x300

    def read(address: int, size: int, cpu: int) -> bytes:
        task = guest.current if address < A_TASK else address & ~0xFFF
        whole = bytes(at) + names[task] + bytes(64)
        start = 0 if address < A_TASK else address & 0xFFF
        word = guest.current.to_bytes(8, "little") if address < A_TASK else whole
        return word[start : start + size]

    monkeypatch.setattr(guest, "read", read)
    asked: list[tuple[bool, bool]] = []

    def awaited(*_: object, is_b: Callable[[int], bool], b_runs: bool) -> None:
        asked.append((is_b(A_TASK), b_runs))

    monkeypatch.setattr(control, "awaited_lock", awaited)
    assert of_guest.still_blocked(FOUR, 1, lambda _: 4) == 0
    of_guest.round = 1
    guest.pcs[A] = Place.A_WAIT
    of_guest.begin_a(1)
    assert of_guest.scene.name_at == at
    names[A_TASK] = B_NAME
    assert of_guest.still_blocked(FOUR, 1, lambda _: 4) == 0
    guest.current = WORKER
    assert of_guest.still_blocked(FOUR, 1, lambda _: 4) == 0
    assert asked == [(False, False), (True, True), (True, False)]


def test_no_point_is_left_out_after_a_step_of_b(monkeypatch: pytest.MonkeyPatch) -> None:
    """B could have done that step at each of them."""
    guest = Guest()
    of_guest = held(guest)
    guest.words[Word.B_DONE] = 1
    went = waiting(of_guest, monkeypatch, *[5] * 5)
    assert of_guest.still_blocked(FOUR, 1, lambda _: 4) == 0
    assert not went


@pytest.mark.parametrize("preempts", [False, True])
def test_a_point_where_a_answers_others_differently(
    *, preempts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With interrupts off, or where it may lose its CPU, B would be blocked at another place."""
    guest = Guest()
    of_guest = held(guest)
    cast("Any", of_guest.scene.code).preempts = preempts
    waiting(of_guest, monkeypatch, *[5] * 5)

    def go(place: Point, _: int) -> None:
        if place == FOUR[2]:
            guest.flags, guest.current = (guest.flags, 1) if preempts else (0, A_TASK)

    monkeypatch.setattr(of_guest, "to_point", go)
    assert of_guest.still_blocked(FOUR, 1, lambda _: 4) == 2


def test_whoever_leaves_goes_on_when_it_is_on_no_list() -> None:
    """A task that preempts it says that it has gone; A is at its end when its CPU is idle."""
    guest = Guest()
    of_guest = held(guest)
    of_guest.leaves = True
    guest.steps = [done(guest), nothing, nothing, at_point(guest)]
    of_guest.to_point(point(), 1)
    assert not guest.breakpoints
    cast("Any", of_guest.scene.code).function_at = lambda _: "default_idle"
    guest.pcs[A] = 0
    guest.steps = [nothing, at_point(guest)]
    with pytest.raises(NotReached):
        of_guest.to_point(point(), 1)
    assert len(guest.steps) == 2
    assert not guest.breakpoints


def test_whether_breakpoints_stay_is_looked_at_once() -> None:
    """In the first trial of a guest: A waits where one is set."""
    guest = Guest()
    of_guest = held(guest)
    of_guest.round = 1
    of_guest.begin_a(1)
    assert of_guest.scene.unserved_works
    assert not guest.breakpoints
    guest.pcs[A] = Place.A_WAIT + 4
    of_guest.begin_a(1)
    assert not of_guest.scene.unserved_works


def test_a_monitor_that_does_not_read_memory() -> None:
    """It is QEMU's failure, and no endless wait."""
    guest = Guest()
    of_guest = held(guest)
    guest.answer = "Cannot access memory"
    with pytest.raises(QemuFailed, match="does not read memory: Cannot access memory"):
        of_guest.to_point(point(), 1)


def test_which_addresses_are_in_use() -> None:
    """As QEMU's monitor prints them, in their order; what it does not say is its failure."""
    guest = Guest()
    of_guest = held(guest)
    guest.answer = (
        "ffffffffa0000000-ffffffffa0004000 0000000000004000 -r-\r\n"
        "ffff888000000000-ffff888000099000 0000000000099000 -rw\r\n"
    )
    assert of_guest.mapped() == (
        (0xFFFF888000000000, 0xFFFF888000099000),
        (0xFFFFFFFFA0000000, 0xFFFFFFFFA0004000),
    )
    guest.answer = "PG disabled"
    with pytest.raises(QemuFailed, match="does not say what is mapped: PG disabled"):
        of_guest.mapped()


def test_a_number_is_waited_for() -> None:
    """Until it is large enough, a splat, or the end of the time."""
    guest = Guest()
    of_guest = held(guest)
    guest.steps = [nothing, nothing, done(guest)]
    assert of_guest.await_word(Word.A_DONE, 1, 60)
    assert not of_guest.await_word(Word.B_DONE, 1, 0.01)
    guest.has_splat = True
    assert not of_guest.await_word(Word.B_DONE, 1, 60)


def test_a_scene_that_is_not_made_again() -> None:
    """What klp-duel says of it is what is reported."""
    guest = Guest()
    of_guest = held(guest)
    findings = b"insmod x: Device or resource busy; "
    guest.words[PAGES.findings] = int.from_bytes(findings, "little")

    def begun() -> None:
        guest.words[Word.ROUNDS] = 2

    guest.steps = [begun]
    with pytest.raises(HarnessError, match="not made again: insmod x: Device or resource busy"):
        of_guest.make_scene()
    assert guest.words[Word.AGAIN] == 2
    of_guest.round = 3
    with pytest.raises(HarnessError, match="not made again in time"):
        of_guest.make_scene()
