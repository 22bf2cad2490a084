# SPDX-License-Identifier: GPL-2.0-only
"""One trial: a clone of a scene, in which A and B act in some order, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from harness.deadline import Deadline
from harness.errors import GuestStarved, HarnessError, KernelVerdict
from harness.log import LOGGER
from harness.observer.accesses import existing
from harness.observer.shared_file import count_events
from harness.tools.race.explore.actions import Kind
from harness.tools.race.explore.calls import CallRecorder
from harness.tools.race.explore.consistency import events_of
from harness.tools.race.explore.control import BLOCKED, NotReached
from harness.tools.race.explore.duel import ENDED, Word
from harness.tools.race.explore.guests import fresh_guest, used_guest, verdict_of
from harness.tools.race.explore.passage import Passage, Touching
from harness.tools.race.explore.running import B
from harness.tools.race.explore.seen import Move, Seen
from harness.tools.race.explore.trace import Candidates, trace, trace_noted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.tools.race.explore.control import HeldGuest
    from harness.tools.race.explore.guests import TrialGuest
    from harness.tools.race.explore.pairs import Pair, State
    from harness.tools.race.explore.points import Hold, Point
    from harness.tools.race.explore.scene import Scenes
    from harness.tools.race.explore.seen import Order
    from harness.vm.guest.hypervisor import Hypervisor
    from harness.vm.guest.snapshot import Template

_BOTH_S = 15.0
_STAYS = "module "
_EPILOGUE_S = 30.0
_OOPS_S = 1.0
_CONSOLE_S = 5.0
_LEAST_SHARE = 0.25
_NOTED_RUNS = 3

_T = TypeVar("_T")


@dataclass
class _Notes:
    reached: bool = True
    b: str | None = None
    also_blocked: int = 0
    ended: bool = False
    stuck: str = ""
    facts: dict[str, object] = field(default_factory=dict)


class Trials:
    """Makes trials in guests of this process. Several threads may use it at once."""

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes
        self._touching = Touching()

    def try_hold(
        self,
        pair: Pair,
        hold: Hold,
        *,
        then: Sequence[Hold] = (),
        fresh: bool = False,
        with_calls: bool = False,
    ) -> Seen:
        """Hold A at a point while B acts. Raises HarnessError for what says nothing.

        When B waits for a lock of A's, A goes on from one point of ``then`` to the next, as long as
        it is known that the trial of that point would show the same.
        ``fresh``: in a guest that has made no trial before; ``with_calls`` needs that.
        """
        holds = (hold, *then)

        def clear(lock: int) -> int:
            return self._touching.clear(pair, lock, hold.a, [each.a for each in then])

        if not (fresh or with_calls or hold.a.off):
            with used_guest(self.scenes, pair, str(hold)) as guest:
                return _seen(guest, pair, str(hold), holds=holds, clear=clear)
        with fresh_guest(self.scenes, pair, str(hold)) as guest:
            recorder = None
            if with_calls:
                where = Candidates(guest.scene.code, dense=False)
                recorder = CallRecorder(guest.held, where.entries())
            return _seen(guest, pair, str(hold), holds=holds[:1], recorder=recorder)

    def try_order(self, pair: Pair, order: Order, *, fresh: bool = False) -> Seen:
        """Have A and B act one after the other. Raises HarnessError for what says nothing."""
        noting: Template | None = None
        plan = " ".join(order)
        if _is_plain(order) and self._touching.wants(pair, b_first=order[0] is Move.B):
            noting = self.scenes.get(pair.state).noting()
        if noting is None and not fresh:
            with used_guest(self.scenes, pair, plan) as guest:
                return _seen(guest, pair, plan, order=order)
        return noted(pair, noting, lambda noting: self._in_order(pair, order, noting))

    def _in_order(self, pair: Pair, order: Order, noting: Template | None) -> Seen:
        plan = " ".join(order)
        b_first = order[0] is Move.B
        with fresh_guest(self.scenes, pair, plan, noting) as guest:
            held = guest.held
            mapped = held.mapped() if held.accesses is not None and b_first else ()
            seen = _seen(guest, pair, plan, order=order)
            if held.accesses is not None:
                (accesses,) = held.accesses.read(0, held.accesses.end(), cpu=B)
                # A, which will have allocated its own, finds nothing of B's at these addresses.
                met = existing(accesses, mapped) if b_first else accesses
                self._touching.add(pair, met, b_first=b_first)
            return seen

    def drop(self, state: State) -> None:
        """Free what a state needs that no pair begins in any more."""
        self.scenes.drop(state)
        self._touching.drop(state)

    def points_of(self, pair: Pair, *, dense: bool) -> tuple[Point, ...]:
        """Return the points that A passes when it acts alone, in their order."""
        passage = self._touching.passage(pair, dense=dense)
        if passage is None:
            where = Candidates(self.scenes.get(pair.state).code, dense=dense)
            noting = self.scenes.get(pair.state).noting(where.all())
            passage = noted(pair, noting, lambda noting: self._traced(pair, where, noting))
            self._touching.keep(pair, passage, dense=dense)
        return passage.points

    def _traced(self, pair: Pair, where: Candidates, noting: Template | None) -> Passage:
        find = trace if noting is None else trace_noted
        with fresh_guest(self.scenes, pair, "points", noting) as guest:
            try:
                return find(guest.held, pair.a, pair.steps(pair.a), where)
            except (EOFError, OSError) as error:
                raise verdict_of(guest.hypervisor, has_ended=True) or HarnessError(
                    f"the guest ended while {pair.a.name} was followed: {error}"
                ) from error

    def alike(self, pair: Pair, *, dense: bool) -> frozenset[Point]:
        """Return the points at which A is for B where it is at the one before.

        None are, when `points_of` or one of the orders has not been.
        """
        passage = self._touching.passage(pair, dense=dense)
        return passage.alike(self._touching.take(pair)) if passage is not None else frozenset()


def _seen(
    guest: TrialGuest,
    pair: Pair,
    plan: str,
    *,
    holds: tuple[Hold, ...] = (),
    order: Order = (),
    recorder: CallRecorder | None = None,
    clear: Callable[[int], int] = lambda _: 0,
) -> Seen:
    held, hypervisor = guest.held, guest.hypervisor
    if guest.verdict is not None:
        return _of_earlier(guest, plan, guest.verdict)
    a, b = pair.steps(pair.a), pair.steps(pair.b)
    notes, has_ended = _Notes(), False
    held.has_workers = pair.a.by_any or pair.a.kind is Kind.CHANGE
    held.leaves = pair.a.leaves
    try:
        held.arm(a, b, pair.after(), with_hog=bool(holds) and holds[0].a.off)
        if holds:
            counts = _hold(held, holds, notes, (len(a), len(b)), recorder, clear)
        else:
            counts = _in_order(held, order, notes)
        until = _finish(held, notes, *counts, recorder)
        if hypervisor.unexpected_splats():
            held.run_for(_OOPS_S)  # an oops is printed to its end
        elif notes.ended:
            console = hypervisor.console
            ended = ENDED.format(held.round)
            hypervisor.events.wait(lambda: console.contains(ended), Deadline.after(_CONSOLE_S))
        notes.facts = {
            "a_errors": held.duel.errors(Word.A_ERRORS, counts[0]),
            "b_errors": held.duel.errors(Word.B_ERRORS, counts[1]),
            **_left(pair, held.duel.state(), held.duel.problems()),
            "child": held.duel.child(),
            **_judged(held, pair, until),
        }
    except (EOFError, OSError):
        notes.ended, has_ended = False, True
        notes.stuck = notes.stuck or "the guest has ended"
    verdict = verdict_of(hypervisor, has_ended=has_ended)
    if verdict is None and not notes.ended:
        _require_time(hypervisor, guest.start_s)
    seen = Seen(
        plan=plan,
        reached=notes.reached,
        b=notes.b,
        also_blocked=notes.also_blocked,
        ended=notes.ended,
        verdict=verdict,
        seconds=time.monotonic() - guest.start_s,
        cpu_s=hypervisor.cpu_s() - guest.cpu_s,
        stuck=notes.stuck,
        console=_console(guest) if verdict or not notes.ended else (),
        calls=tuple(recorder.calls) if recorder is not None else (),
        calls_before=recorder.before if recorder is not None else 0,
        earlier=tuple(guest.earlier),
        **notes.facts,  # type: ignore[arg-type]
    )
    held.is_clean = seen.is_clean
    return seen


def _of_earlier(guest: TrialGuest, plan: str, verdict: KernelVerdict) -> Seen:
    """Return what one of a guest's earlier trials has led to, too late for it."""
    return Seen(
        plan=plan,
        reached=True,
        b=None,
        ended=False,
        verdict=verdict,
        stuck="the state that the trial begins in cannot be made again",
        console=_console(guest),
        earlier=tuple(guest.earlier),
    )


def _console(guest: TrialGuest) -> tuple[str, ...]:
    return tuple(guest.hypervisor.console.text().splitlines())


def noted(pair: Pair, noting: Template | None, run: Callable[[Template | None], _T]) -> _T:
    """Return what a run gives in which accesses are noted; at last without: QEMU 7.2 may fail."""
    for left in reversed(range(_NOTED_RUNS if noting is not None else 0)):
        try:
            return run(noting)
        except HarnessError as error:
            then = "" if left else ", and more of its points are tried"
            LOGGER.warning("%s is run again%s: %s", pair, then, error.message)
    return run(None)


def _is_plain(order: Order) -> bool:
    """Return whether one acts after the other, at once."""
    return Move.SETTLE not in order and sum(a is not b for a, b in pairwise(order)) == 1


def _left(pair: Pair, state: str, problems: tuple[str, ...]) -> dict[str, object]:
    """Return state and problems; that a forced livepatch's module stays is right, and is state."""
    stay: tuple[str, ...] = ()
    if pair.forces:
        stay = tuple(each for each in problems if each.startswith(_STAYS))
    others = tuple(each for each in problems if each not in stay)
    return {"state": "; ".join((state, *stay)), "problems": others}


def _judged(held: HeldGuest, pair: Pair, until: int | None) -> dict[str, object]:
    """Return what violates consistency; with `force`, the kernel does not promise it."""
    invariants = held.scene.invariants
    if invariants is None or held.observed is None or pair.forces:
        return {}
    is_first = held.round == 1
    earlier = {} if is_first else held.duel.earlier_modules()
    found = invariants.judge(
        events_of(held.observed, held.first_event, until),
        from_scene=is_first,
        loaded=earlier,
        later=held.duel.modules(),
        armed=held.armed_event - held.first_event,
        steps=(*pair.steps(pair.a), *pair.steps(pair.b)),
        memory=lambda address, size: held.gdb.read(address, size, 0),
    )
    return {"violation": found.kind, "violations": found.details} if found is not None else {}


def _hold(
    held: HeldGuest,
    holds: tuple[Hold, ...],
    notes: _Notes,
    counts: tuple[int, int],
    recorder: CallRecorder | None,
    clear: Callable[[int], int],
) -> tuple[int, int]:
    a, b = counts
    hold, *then = holds
    held.begin_a(a)
    try:
        held.to_point(hold.a, a)
        if recorder is not None:
            recorder.hold()
        if hold.a.off:
            notes.b = held.b_while_a_is_off(b)
        else:
            notes.b = held.b_alone(b, until=hold.b, a=a)
    except NotReached:
        notes.reached = False
    if notes.b is not None and notes.b.startswith(BLOCKED):
        notes.also_blocked = held.still_blocked([each.a for each in then], a, clear)
    held.duel.set(Word.HELD, 0)
    held.duel.set(Word.B_GO, b)
    return a, b


def _in_order(held: HeldGuest, order: Order, notes: _Notes) -> tuple[int, int]:
    done = {Move.A: 0, Move.B: 0}
    words = {Move.A: (Word.A_GO, Word.A_DONE), Move.B: (Word.B_GO, Word.B_DONE)}
    for move in order:
        if held.accesses is not None and move is Move.B:
            held.accesses.begin()
        elif held.accesses is not None:
            held.accesses.end()
        if move is Move.SETTLE:
            if not held.settle(held.scaled(_EPILOGUE_S)):
                notes.stuck = "a transition does not end"
                break
            continue
        done[move] += 1
        go, ended = words[move]
        held.duel.set(go, done[move])
        if not held.await_word(ended, done[move], held.scaled(_BOTH_S)):
            notes.stuck = f"{move} does not end"
            break
    if held.accesses is not None:
        held.accesses.end()
    return done[Move.A], done[Move.B]


def _finish(
    held: HeldGuest, notes: _Notes, a: int, b: int, recorder: CallRecorder | None
) -> int | None:
    """Let all go on: A and B have to end, and then what comes after them.

    Return how many events QEMU's plugin had reported when all had settled.
    """
    for name, word, count in (("A", Word.A_DONE, a), ("B", Word.B_DONE, b)):
        if not held.await_word(word, count, held.scaled(_BOTH_S)):
            notes.stuck = notes.stuck or f"{name} does not end"
            return None
    if recorder is not None:
        recorder.end()
    observed, until, has_settled = held.observed, None, False
    if observed is not None:
        has_settled = held.settle(held.scaled(_EPILOGUE_S))
        until = count_events(observed)
    held.duel.set(Word.E_GO, 2 if has_settled else 1)
    if held.await_word(Word.E_DONE, 1, held.scaled(_EPILOGUE_S)):
        notes.ended = not notes.stuck
    elif not notes.stuck:
        notes.stuck = "what A and B have left cannot be taken back"
    return until


def _require_time(hypervisor: Hypervisor, start_s: float) -> None:
    """Raise GuestStarved when the guest had no time to finish."""
    passed_s = time.monotonic() - start_s
    if hypervisor.could_run_s(start_s) < passed_s * _LEAST_SHARE:
        raise GuestStarved("the guest got too little time to finish, so there is no verdict")
