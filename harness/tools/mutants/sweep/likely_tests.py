# SPDX-License-Identifier: GPL-2.0-only
"""Which test is likely to notice a mutant soonest. Pure.

It is the one that noticed it in the last sweep. Without that, what noticed mutants of the same line
and function counts, then the rules that mutants of the catalogue break near the line, then how
little a test reaches.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.tools.mutants.likely_rules import rules_near

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from harness.behaviours.mutants import Mutant
    from harness.tools.mutants.sweep.baseline import Baseline
    from harness.tools.mutants.sweep.candidates import Candidate

# A restored guest costs this much CPU time beside what its test does, in seconds.
_GUEST_S = 0.3
# What one run on the same line says, in runs on other lines of the same function.
_SAME_LINE = 3
# The chance of a test of which nothing is known, in ``_RUNS`` runs: of the nearest rule, of a
# rule further away (by this much less for each), of none.
_RUNS = 2
_NEAREST, _LESS, _ELSEWHERE = 1.0, 0.9, 0.2


def near_rules(
    mutants: Iterable[Candidate], catalogue: Collection[Mutant]
) -> dict[str, tuple[str, ...]]:
    """Return for each mutant, by its name, the rules that mutants of the catalogue break near it.

    The nearest come first.
    """
    return {mutant.name: rules_near([(mutant.file, mutant.line)], catalogue) for mutant in mutants}


class LikelyTests:
    """What a sweep has seen so far of which tests notice what."""

    def __init__(
        self,
        baseline: Baseline,
        *,
        near: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
        last: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``near`` are rules of each mutant, ``last`` the tests that have noticed it before."""
        self._tests = baseline.tests
        self._near = near
        self._last = last
        self._most = max((len(test.differs) for test in self._tests.values()), default=0) or 1
        self._ran: Counter[tuple[str, int, str]] = Counter()
        self._noticed: Counter[tuple[str, int, str]] = Counter()

    def ran(self, mutant: Candidate, test: str) -> None:
        """Take that a test ran on a mutant."""
        self._ran.update(self._places(mutant, test))

    def noticed(self, mutant: Candidate, test: str) -> None:
        """Take that it noticed it."""
        self._noticed.update(self._places(mutant, test))

    def soonest(self, mutant: Candidate, tests: Collection[str], first: Collection[str]) -> str:
        """Return one of the tests: of those in ``first``, if there are any."""
        return min(
            set(first) & set(tests) or tests, key=lambda test: (self._rank(mutant, test), test)
        )

    def _rank(self, mutant: Candidate, test: str) -> float:
        """Return the CPU time that it takes to notice the mutant by this test, in seconds."""
        if self._last.get(mutant.name) == test:
            return 0.0
        facts = self._tests[test]
        function, line = self._places(mutant, test)
        noticed = self._noticed[function] + _SAME_LINE * self._noticed[line]
        ran = self._ran[function] + _SAME_LINE * self._ran[line]
        chance = (noticed + self._guess(mutant, facts.rules)) / (ran + _RUNS)
        share = 0.5 + len(facts.differs) / self._most
        return ((facts.cpu_s or facts.seconds) + _GUEST_S) * share / chance

    def _guess(self, mutant: Candidate, rules: Collection[str]) -> float:
        near = self._near.get(mutant.name, ())
        place = next((i for i, rule in enumerate(near) if rule in rules), None)
        return _ELSEWHERE if place is None else max(_ELSEWHERE, _NEAREST * _LESS**place)

    @staticmethod
    def _places(mutant: Candidate, test: str) -> tuple[tuple[str, int, str], ...]:
        return (mutant.function, 0, test), (mutant.file, mutant.line, test)
