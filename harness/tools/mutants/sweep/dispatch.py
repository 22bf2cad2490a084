# SPDX-License-Identifier: GPL-2.0-only
"""Which test runs next on which mutant, and what its results mean. Pure but for its threads' lock.

A mutant is tried with one test at a time, since most are caught by their first or second. Once no
other mutant is left to begin with, it gets as many guests as are free. A test that takes much
longer than without a mutant mostly waits for what does not happen: others run beside it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep.likely_tests import LikelyTests
from harness.tools.mutants.sweep.results import BY_OBJECT, Noticed, SweepResult, result_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from harness.tools.mutants.sweep.baseline import Baseline
    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.tools.mutants.sweep.explained import Explained
    from harness.tools.mutants.sweep.messages import Ran
    from harness.tools.mutants.sweep.results import How

_WAKE_S = 0.5
# A test takes this much more time on a mutant before it is given up; a busy host is slow at times.
_LIMIT_S, _LIMIT_TIMES = 120.0, 10.0
_TRIES = 2
# From then on a test is taken to wait, and no longer to need a core.
_WAITS_S, _WAITS_TIMES = 10.0, 2.0
# On a busy host, a guest that spins looks like one that gets no CPU, but for the CPU time that it
# has used: this much more than the test takes without a mutant, in all its tries together.
_STARVED = "GuestStarved"
_SPINS_TIMES, _SPINS_S = 3.0, 5.0
# After so many errors a mutant is given up, and tried again when the sweep is taken up.
_MOST_ERRORS = 3
_HOW: Mapping[str, How] = {
    "KernelSplat": "splat",
    "GuestPanic": "panic",
    "GuestReset": "panic",
    "GuestHang": "hang",
    "LostConnection": "agent",
    "LostGuest": "agent",
    "LogIncomplete": "agent",
}
# Errors that are not the kernel's on a sound kernel. When a test that passes there ends so twice on
# a mutant, it is the mutant: the agent's memory is overwritten, a patch has no directory.
_BY_THE_MUTANT = frozenset({"LostConnection", "LostGuest", "LogIncomplete", "UsageError"})
NEVER_DIFFERS = "reached, and its value or effect was the original's each time"
NOT_REACHED = "no test reaches it"
ALL_FAIL = "the tests in which it makes a difference fail without it, too"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A test to run on a mutant; without one, whether the compiler sees a difference is asked."""

    mutant: Candidate
    test: str | None = None


@dataclass
class _Running:
    mutant: Candidate
    left: set[str]
    tries: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    compared: bool = False
    passed: list[Ran] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    errors: int = 0
    # CPU time that its guests have used beyond what their tests can take.
    spun_s: float = 0.0
    # What it is when no test can run on it, unless the compiler sees no difference.
    settled: tuple[CheckOutcome, str] | None = None
    is_over: bool = False


class Dispatch:
    """The mutants of a sweep on their way."""

    def __init__(
        self,
        mutants: Sequence[Candidate],
        baseline: Baseline,
        *,
        sources: Mapping[str, bytes],
        guests: int,
        known: Mapping[str, Explained] = MappingProxyType({}),
        named: Collection[str] = (),
        likely: LikelyTests | None = None,
        compare: bool = True,
    ) -> None:
        """``known`` is what is known of mutants that no test notices, by their names.

        Of these only those in ``named`` run, unless there is a proof that nothing can notice them.
        ``likely`` says which test is next; without it, nothing is known before. Without
        ``compare``, no object files are compared.
        """
        self._baseline = baseline
        self._sources = sources
        self._guests = guests
        self._known = known
        self._named = frozenset(named)
        self._compare = compare
        self._pending = list(reversed(mutants))
        self._active: list[_Running] = []
        self._since: dict[Task, float] = {}
        self._changed = threading.Condition()
        self._likely = likely or LikelyTests(baseline)
        self.switch_s = 0.0
        """How long it took to set the switch of a guest, in seconds: the longest of all."""

    def known(self) -> Iterator[SweepResult]:
        """Yield the results that need neither a guest nor the compiler; these are not run."""
        left = []
        for mutant in reversed(self._pending):
            known = self._known.get(mutant.name)
            settled = self._without_guest(mutant)
            if known is not None and known.kind == "equivalent":
                yield self._result(mutant, CheckOutcome.EQUIVALENT, detail=known.why)
            elif known is not None and mutant.name not in self._named:
                found = self._result(mutant, settled[0] if settled else CheckOutcome.SURVIVED)
                yield found.model_copy(update={"detail": f"not run: {known.why}"})
            elif settled is None or self._compare:
                left.append(mutant)
            else:
                yield self._result(mutant, settled[0], detail=settled[1])
        self._pending = list(reversed(left))

    def tasks(self) -> Iterator[Task]:
        """Yield what to do next, as long as there is something; waits for results meanwhile."""
        while True:
            with self._changed:
                while (task := self._pick()) is None:
                    if not self._pending and not self._active:
                        return
                    self._changed.wait(_WAKE_S)
            yield task

    def limit_s(self, test: str) -> float:
        """Return how long a test may take on a mutant, in seconds."""
        facts = self._baseline.tests.get(test)
        return _LIMIT_S + _LIMIT_TIMES * (facts.seconds if facts is not None else 0.0)

    def compared(self, task: Task, *, is_same: bool) -> SweepResult | None:
        """Take whether a mutant's object file is the original's; return the result if it is."""
        with self._changed:
            running = self._finished(task)
            running.compared = True
            self._changed.notify_all()
            if is_same:
                return self._over(running, CheckOutcome.EQUIVALENT, detail=BY_OBJECT)
            if running.settled is not None:
                return self._over(running, running.settled[0], detail=running.settled[1])
            return None

    def ended(self, task: Task, ran: Ran | None, lost: str | None = None) -> SweepResult | None:
        """Take how a test ended on a mutant; return the mutant's result once it is known.

        ``ran`` is None for one that did not end in time. ``lost`` is why a worker was lost.
        """
        assert task.test is not None
        with self._changed:
            running = self._finished(task)
            if ran is not None:
                running.seconds += ran.seconds
                self.switch_s = max(self.switch_s, ran.switch_s)
            self._changed.notify_all()
            if running.is_over:
                return None
            return self._judge(running, task.test, ran, lost)

    def _judge(
        self, running: _Running, test: str, ran: Ran | None, lost: str | None
    ) -> SweepResult | None:
        mutant = running.mutant
        self._likely.ran(mutant, test)
        running.tries[test] += 1
        again = running.tries[test] < _TRIES
        if ran is not None and ran.outcome is CheckOutcome.FAILED:
            return self._caught(running, _noticed(test, ran))
        if ran is not None and ran.outcome is not CheckOutcome.ERROR:
            running.passed.append(ran)
        elif ran is not None and self._spins(running, test, ran):
            return self._caught(
                running,
                Noticed(
                    test=test,
                    how="hang",
                    reason=f"its guest used {ran.cpu_s:.0f} s of CPU time and did not answer",
                    seconds=ran.seconds,
                ),
            )
        elif again:
            # The host may have been at fault.
            running.left.add(test)
        elif lost is None and ran is None:
            return self._caught(
                running, Noticed(test=test, how="timeout", reason="it did not end in its time")
            )
        elif ran is not None and ran.ended_by in _BY_THE_MUTANT:
            return self._caught(running, _noticed(test, ran))
        else:
            running.error = lost or (ran.reason if ran is not None else "no result")
            running.errors += 1
            if running.errors >= _MOST_ERRORS:
                return self._over(running, CheckOutcome.ERROR, detail=running.error)
        if running.left or running.in_flight:
            return None
        if running.error is not None:
            return self._over(running, CheckOutcome.ERROR, detail=running.error)
        return self._over(running, CheckOutcome.SURVIVED)

    def _spins(self, running: _Running, test: str, ran: Ran) -> bool:
        """Whether a guest that seemed to get no CPU has used more of it than the test takes."""
        facts = self._baseline.tests.get(test)
        if ran.ended_by != _STARVED or facts is None or not facts.cpu_s:
            return False
        running.spun_s += max(0.0, ran.cpu_s - _SPINS_TIMES * facts.cpu_s)
        return running.spun_s > _SPINS_S

    def _caught(self, running: _Running, noticed: Noticed) -> SweepResult:
        self._likely.noticed(running.mutant, noticed.test)
        return self._over(running, CheckOutcome.CAUGHT, noticed=noticed)

    def _over(
        self,
        running: _Running,
        outcome: CheckOutcome,
        *,
        noticed: Noticed | None = None,
        detail: str | None = None,
    ) -> SweepResult:
        running.is_over = True
        running.left.clear()
        self._active = [each for each in self._active if not each.is_over or each.in_flight]
        return self._result(
            running.mutant,
            outcome,
            noticed=noticed,
            detail=detail,
            ran=tuple(ran.test for ran in running.passed),
            seconds=running.seconds,
        )

    def _finished(self, task: Task) -> _Running:
        del self._since[task]
        running = next(each for each in self._active if each.mutant is task.mutant)
        running.in_flight -= 1
        return running

    def _is_waiting(self, task: Task) -> bool:
        if task.test is None:
            return False
        usual_s = self._baseline.tests[task.test].seconds
        return time.monotonic() - self._since[task] > _WAITS_S + _WAITS_TIMES * usual_s

    def _pick(self) -> Task | None:
        self._active = [each for each in self._active if not each.is_over or each.in_flight]
        busy = sum(not self._is_waiting(each) for each in self._since)
        task = self._next_task() if busy < self._guests else None
        if task is not None:
            self._since[task] = time.monotonic()
        return task

    def _next_task(self) -> Task | None:
        most = 1 if self._pending else self._guests
        for running in self._active:
            if running.is_over or running.in_flight >= most:
                continue
            task = self._task(running)
            if task is not None:
                return task
        if not self._pending:
            return None
        mutant = self._pending.pop()
        running = _Running(
            mutant,
            set(self.tests_for(mutant)),
            compared=not self._compare,
            settled=self._without_guest(mutant),
        )
        self._active.append(running)
        return self._task(running)

    def _task(self, running: _Running) -> Task | None:
        if not running.compared:
            if running.in_flight:
                return None
            running.in_flight += 1
            return Task(mutant=running.mutant)
        if not running.left:
            return None
        # A second try comes at once.
        test = self._likely.soonest(running.mutant, running.left, first=running.tries)
        running.left.remove(test)
        running.in_flight += 1
        return Task(mutant=running.mutant, test=test)

    def tests_for(self, mutant: Candidate) -> tuple[str, ...]:
        """Return the tests that may notice a mutant."""
        if mutant.init:
            # Nothing is recorded while the kernel boots.
            return tuple(n for n, test in self._baseline.tests.items() if test.can_notice)
        return self._baseline.differing(mutant.number)

    def _without_guest(self, mutant: Candidate) -> tuple[CheckOutcome, str] | None:
        """Return what a mutant is that no test can notice, None for another one."""
        if mutant.init:
            return None
        if not self._baseline.reaching(mutant.number):
            return CheckOutcome.UNCOVERED, NOT_REACHED
        if self.tests_for(mutant):
            return None
        differs = any(mutant.number in test.differs for test in self._baseline.tests.values())
        return CheckOutcome.SURVIVED, ALL_FAIL if differs else NEVER_DIFFERS

    def _result(
        self,
        mutant: Candidate,
        outcome: CheckOutcome,
        *,
        noticed: Noticed | None = None,
        detail: str | None = None,
        ran: tuple[str, ...] = (),
        seconds: float = 0.0,
    ) -> SweepResult:
        made = result_of(mutant, outcome, self._sources, self._known, detail=detail)
        return made.model_copy(
            update={
                "seconds": seconds,
                "reached": len(self._baseline.reaching(mutant.number)),
                "differs": len(self._baseline.differing(mutant.number)),
                "noticed": noticed,
                "ran": ran,
            }
        )


def _noticed(test: str, ran: Ran) -> Noticed:
    return Noticed(
        test=test,
        how=_HOW.get(ran.ended_by or "", "test"),
        rules=ran.rules,
        reason=ran.reason,
        seconds=ran.seconds,
    )
