# SPDX-License-Identifier: GPL-2.0-only
"""The outcome of each rule on two kernels, and whether the second is worse. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from harness.behaviours.latest_results import worst
from harness.behaviours.results import Change, CompareResult
from harness.report.base import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.report.suite_results import TestResult

_HELD = (CheckOutcome.PASSED, CheckOutcome.WARNED)
_BROKEN = (CheckOutcome.FAILED, CheckOutcome.EXPECTED_FAILURE)
# pytest's words for a test that passes though its marker expects a failure (xfail, strict).
_PASSES_AFTER_ALL = "[XPASS(strict)]"
_DETAIL_LINES = 20


def compare_rules(
    before: Iterable[TestResult], after: Iterable[TestResult]
) -> tuple[CompareResult, ...]:
    """Return one result for each rule that has a test in either run, by the rule's id.

    A rule is as good as the worst of its tests. It has failed here when it held before and fails
    after; any other change is reported and fails nothing.
    """
    first, second = _by_rule(before), _by_rule(after)
    return tuple(
        _compared(rule, first.get(rule, {}), second.get(rule, {}))
        for rule in sorted(first.keys() | second.keys())
    )


def _by_rule(results: Iterable[TestResult]) -> dict[str, dict[str, TestResult]]:
    found: dict[str, dict[str, TestResult]] = defaultdict(dict)
    for result in results:
        for rule in result.rules:
            found[rule][result.id] = result
    return found


def _compared(
    rule: str, before: Mapping[str, TestResult], after: Mapping[str, TestResult]
) -> CompareResult:
    old = worst(_outcome(result) for result in before.values())
    new = worst(_outcome(result) for result in after.values())
    differing = tuple(
        name
        for name in sorted(before.keys() | after.keys())
        if _of(before.get(name)) is not _of(after.get(name))
    )
    change = _change(old, new)
    if change is Change.WORSE:
        outcome = CheckOutcome.FAILED
    elif CheckOutcome.ERROR in (old, new):
        outcome = CheckOutcome.ERROR
    else:
        outcome = CheckOutcome.PASSED
    failed = next(
        (r.detail for r in after.values() if r.detail and _outcome(r) is new and new not in _HELD),
        None,
    )
    return CompareResult(
        id=rule,
        outcome=outcome,
        seconds=sum(result.seconds for result in (*before.values(), *after.values())),
        before=old,
        after=new,
        change=change,
        tests=differing,
        detail="\n".join(failed.splitlines()[:_DETAIL_LINES]) if failed else None,
    )


def _change(before: CheckOutcome, after: CheckOutcome) -> Change:
    if before is after:
        return Change.SAME
    if before in _HELD and after is CheckOutcome.FAILED:
        return Change.WORSE
    if before in _BROKEN and after in _HELD:
        return Change.BETTER
    return Change.OTHER


def _of(result: TestResult | None) -> CheckOutcome | None:
    return None if result is None else _outcome(result)


def _outcome(result: TestResult) -> CheckOutcome:
    """Return what a test says of the kernel; one that is not expected to pass and does, passes."""
    passes = result.outcome is CheckOutcome.FAILED and (result.detail or "").startswith(
        _PASSES_AFTER_ALL
    )
    if passes:
        return CheckOutcome.PASSED
    # A test skips where its kernel has nothing to test.
    skipped = result.outcome is CheckOutcome.SKIPPED
    return CheckOutcome.NOT_APPLICABLE if skipped else result.outcome
