# SPDX-License-Identifier: GPL-2.0-only
"""Which tests run the lines that a mutant changes, as runs with --coverage have seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.tools.mutants.likely_rules import changed_places

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.behaviours.mutants import Mutant
    from harness.observer.test_lines import TestLines


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Which tests run the changed lines of a mutant.

    ``lines`` is how many lines with code it changes in files that were covered; with none, nothing
    is known. ``tests`` has the tests that run one of them, those that run the most first, and
    ``of_rules`` those among them that carry a rule which the mutant breaks. ``unknown`` are tests
    of its rules of which it is not known what they run.
    """

    lines: int
    tests: tuple[str, ...] = ()
    of_rules: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def is_missed(self) -> bool:
        """Whether no test of its rules runs what it changes."""
        return self.lines > 0 and not self.of_rules and not self.unknown


def reached_by(mutant: Mutant, known: TestLines, carriers: Mapping[str, Sequence[str]]) -> Reached:
    """Return which tests run a mutant's changed lines; ``carriers`` has the tests of each rule."""
    places = tuple(changed_places(mutant.diff))
    tests = tuple(known.tests_of(places))
    own = {test for rule in mutant.breaks for test in carriers.get(rule, ())}
    return Reached(
        lines=len(known.with_code(places)),
        tests=tests,
        of_rules=tuple(test for test in tests if test in own),
        unknown=tuple(sorted(own - set(known.tests))),
    )


def in_order(tests: Sequence[str], first: Sequence[str]) -> tuple[str, ...]:
    """Return the tests with those of ``first`` at the beginning, in its order; else as they are."""
    wanted = set(tests)
    begin = [test for test in first if test in wanted]
    return (*begin, *(test for test in tests if test not in set(begin)))
