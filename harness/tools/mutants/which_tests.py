# SPDX-License-Identifier: GPL-2.0-only
"""Which tests run on a mutant, in which order, and what their results mean. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.report.reason import reason_of
from harness.tools.mutants.results import Catch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from harness.report.suite_results import TestResult

_PREFIX = "tests/behaviours/"
# How the first test fails on a kernel that does not boot; a kernel that fails later may do so, too.
_NO_GUEST = re.compile(r"(?:BootFailed|GuestPanic|GuestReset|GuestHang|KernelSplat):")


def plan_tests(
    breaks: Iterable[str],
    carriers: Mapping[str, Sequence[str]],
    *,
    builds: Collection[str] = frozenset(),
    without: Collection[str] = frozenset(),
    rules_only: bool = False,
) -> tuple[tuple[str, ...], ...]:
    """Return the tests of each run on a mutant; the runs follow each other until a test notices.

    ``carriers`` has the tests of each rule, by name in the folder of the suite. Those of the rules
    in ``breaks`` come first, then those of rules in the same sections; with ``rules_only`` no
    others run. Tests in ``builds`` need the mutant to be built once more, which takes minutes: they
    come last, unless no other test is about these rules. Those in ``without`` are left out.
    """
    broken = tuple(breaks)
    carriers = {
        rule: [test for test in tests if test not in without] for rule, tests in carriers.items()
    }
    named = dict.fromkeys(test for rule in broken for test in carriers.get(rule, ()))
    first = [test for test in named if test not in builds] or list(named)
    sections = {rule.partition("-")[0] for rule in broken}
    by_section = sorted(carriers, key=lambda rule: (rule.partition("-")[0] not in sections, rule))
    others = dict.fromkeys(test for rule in by_section for test in carriers[rule])
    left = [test for test in (*named, *others) if test not in first]
    left = [test for test in dict.fromkeys(left) if not rules_only or test in named]
    phases = (
        first,
        [test for test in left if test not in builds],
        [test for test in left if test in builds],
    )
    return tuple(tuple(tests) for tests in phases if tests)


def catches(results: Iterable[TestResult], breaks: Iterable[str]) -> tuple[Catch, ...]:
    """Return the tests that failed; those of the rules that are broken come first.

    A test that the harness or the host failed is no result about the kernel, and is left out.
    """
    broken = set(breaks)
    found = [
        Catch(
            test=name_of(result.id),
            rules=result.rules,
            seconds=result.seconds,
            reason=reason_of(result.detail),
            expected=bool(broken & set(result.rules)),
        )
        for result in results
        if result.outcome is CheckOutcome.FAILED
    ]
    return tuple(sorted(found, key=lambda catch: not catch.expected))


def by_rule(results: Iterable[TestResult]) -> dict[str, CheckOutcome]:
    """Return the outcome of each rule: failed when one of its tests did."""
    found: dict[str, CheckOutcome] = {}
    for result in results:
        for rule in result.rules:
            if found.get(rule) is not CheckOutcome.FAILED:
                found[rule] = result.outcome
    return dict(sorted(found.items()))


def may_not_boot(results: Sequence[TestResult]) -> bool:
    """Return whether no test passed, and all failed as they would without any guest."""
    return bool(results) and all(
        result.outcome is CheckOutcome.FAILED and _NO_GUEST.match(result.detail or "")
        for result in results
    )


def name_of(node_id: str) -> str:
    """Return a test's name in the folder of the suite: ``transition/test_sleeper.py::test_x``."""
    return node_id.rpartition(_PREFIX)[2]
