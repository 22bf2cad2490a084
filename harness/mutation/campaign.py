# SPDX-License-Identifier: GPL-2.0-only
"""All mutants of a run, and the check that who caught one passes on the clean kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.mutation.jobs import run_all
from harness.mutation.plan import name_of
from harness.mutation.trial import command_for_tests, judge
from harness.report.results import CheckOutcome, TestReport

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.mutation.catalogue import Mutant
    from harness.mutation.jobs import Command, Done
    from harness.mutation.trial import Conditions
    from harness.report.mutants import MutantResult

_CLEAN = "clean-kernel"
_HOLDS = (CheckOutcome.PASSED, CheckOutcome.EXPECTED_FAILURE)


def run_mutants(
    mutants: Sequence[Mutant],
    conditions: Conditions,
    folder: Path,
    *,
    deadline: Deadline,
    environment: Mapping[str, str],
) -> Iterator[MutantResult]:
    """Yield what each mutant came to, as soon as it is known; see `run_all` for what is raised.

    ``folder`` takes the logs of all commands.
    """
    tasks = [judge(mutant, conditions) for mutant in mutants]
    yield from run_all(
        tasks, folder, runs=conditions.runs, deadline=deadline, environment=environment
    )


def without_false_alarms(
    results: Sequence[MutantResult],
    conditions: Conditions,
    folder: Path,
    *,
    deadline: Deadline,
    environment: Mapping[str, str],
) -> list[MutantResult]:
    """Run the tests that caught a mutant on the clean kernel, and return the results without those
    that fail there too.
    """
    tests = tuple(sorted({catch.test for result in results for catch in result.caught_by}))
    if not tests:
        return list(results)
    task = _fail_on_clean(tests, conditions)
    [fail] = run_all([task], folder, runs=1, deadline=deadline, environment=environment)
    return [amended(result, fail) for result in results]


def amended(result: MutantResult, fail_on_clean: Collection[str]) -> MutantResult:
    """Return a result without the tests that fail on the clean kernel as well."""
    kept = tuple(catch for catch in result.caught_by if catch.test not in fail_on_clean)
    if len(kept) == len(result.caught_by):
        return result
    dropped = tuple(catch.test for catch in result.caught_by if catch.test in fail_on_clean)
    return result.model_copy(
        update={
            "caught_by": kept,
            "on_clean": dropped,
            "outcome": result.outcome if kept else CheckOutcome.SURVIVED,
            "detail": None
            if kept
            else f"only {', '.join(dropped)} failed, on the clean kernel as well",
        }
    )


def _fail_on_clean(
    tests: Sequence[str], conditions: Conditions
) -> Generator[Command, Done, frozenset[str]]:
    done = yield command_for_tests(tests, conditions, name=_CLEAN)
    if not isinstance(done.report, TestReport):
        return frozenset(tests)
    held: set[str] = set()
    broke: set[str] = set()
    for result in done.report.results:
        name = name_of(result.id)
        (held if result.outcome in _HOLDS else broke).add(name)
    # One that gave no result proves nothing.
    return frozenset(broke | (set(tests) - held))
