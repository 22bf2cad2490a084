# SPDX-License-Identifier: GPL-2.0-only
"""All mutants of a run, and the check that the tests which caught one pass on the clean kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.report.suite_results import TestReport
from harness.threads import run_jobs
from harness.tools.mutants.mutant_trial import command_for_tests, judge
from harness.tools.mutants.which_tests import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from harness.behaviours.mutants import Mutant
    from harness.cli.child_commands import RunCommand
    from harness.tools.mutants.conditions import Conditions
    from harness.tools.mutants.results import MutantResult

    Again = Callable[[Sequence[MutantResult], frozenset[str]], Iterable[MutantResult]]

_CLEAN = "clean-kernel"
_HOLDS = (CheckOutcome.PASSED, CheckOutcome.EXPECTED_FAILURE)


def run_mutants(
    mutants: Sequence[Mutant], conditions: Conditions, run: RunCommand
) -> Iterator[MutantResult]:
    """Yield the result of each mutant as soon as it is known; raises what ``run`` raises.

    Each waits in a thread of its own until there is room for its next command.
    """
    return run_jobs(
        mutants,
        lambda mutant: judge(mutant, conditions, run),
        at_a_time=len(mutants),
        name="mutants",
    )


def without_false_alarms(
    results: Sequence[MutantResult], conditions: Conditions, run: RunCommand, *, again: Again
) -> list[MutantResult]:
    """Run the tests that caught a mutant on the clean kernel, and return the results without those
    that fail there too. The clean kernel is built with a mutant's own fragments as well.

    A mutant that is left without any is judged once more by the tests that have not run, since the
    first that failed had ended its run: ``again`` judges such mutants, given their results, without
    the tests that are named.
    """
    by_config: dict[tuple[str, ...], list[MutantResult]] = {}
    for result in results:
        by_config.setdefault(result.config, []).append(result)
    found: dict[str, MutantResult] = {}
    for config, those in by_config.items():
        clean = conditions.with_fragments(config)
        found |= {each.id: each for each in _without_false_alarms(those, clean, run, again)}
    return [found[result.id] for result in results]


def _without_false_alarms(
    results: Sequence[MutantResult], conditions: Conditions, run: RunCommand, again: Again
) -> list[MutantResult]:
    """Do so for mutants of one clean kernel, that of the ``conditions``."""
    held: set[str] = set()
    broke: set[str] = set()
    found = list(results)
    while True:
        tests = {catch.test for result in found for catch in result.caught_by} - held
        if tests:
            fail = _fail_on_clean(sorted(tests), conditions, run)
            broke |= fail
            held |= tests - fail
        unsure = [result for result in found if _lost_all(result, broke)]
        found = [amended(result, broke) for result in found]
        if conditions.everything or not unsure:
            return found
        judged = {result.id: result for result in again(unsure, frozenset(broke))}
        found = [
            continued(result, judged[result.id]) if result.id in judged else result
            for result in found
        ]


def amended(result: MutantResult, fail_on_clean: Collection[str]) -> MutantResult:
    """Return a result without the tests that fail on the clean kernel as well."""
    kept = tuple(catch for catch in result.caught_by if catch.test not in fail_on_clean)
    if len(kept) == len(result.caught_by):
        return result
    gone = [catch.test for catch in result.caught_by if catch.test in fail_on_clean]
    dropped = tuple(dict.fromkeys((*result.on_clean, *gone)))
    changed: dict[str, object] = {"caught_by": kept, "on_clean": dropped, "detail": None}
    if not kept:
        changed |= {
            "outcome": CheckOutcome.SURVIVED,
            "detail": f"only {', '.join(dropped)} failed, on the clean kernel as well",
        }
    return result.model_copy(update=changed)


def continued(first: MutantResult, second: MutantResult) -> MutantResult:
    """Return one result of two runs of a mutant, the second without the tests that mean nothing."""
    nothing = second.outcome is CheckOutcome.SURVIVED
    return second.model_copy(
        update={
            "build_s": first.build_s,
            "seconds": first.seconds + second.seconds,
            "tests": first.tests + second.tests,
            "rules": {**first.rules, **second.rules},
            "on_clean": first.on_clean,
            "upstream": first.upstream,
            "detail": first.detail if nothing else second.detail,
        }
    )


def _lost_all(result: MutantResult, fail_on_clean: Collection[str]) -> bool:
    tests = {catch.test for catch in result.caught_by}
    return bool(tests) and tests <= set(fail_on_clean)


def _fail_on_clean(tests: Sequence[str], conditions: Conditions, run: RunCommand) -> set[str]:
    """Return the tests that do not pass on the clean kernel; one without a result is one."""
    report = run(command_for_tests(tests, conditions, name=_CLEAN)).report
    if not isinstance(report, TestReport):
        return set(tests)
    # A test with parameters has several results.
    broke = {name_of(result.id) for result in report.results if result.outcome not in _HOLDS}
    held = {name_of(result.id) for result in report.results if result.outcome in _HOLDS}
    return broke | (set(tests) - held)
