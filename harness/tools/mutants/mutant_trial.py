# SPDX-License-Identifier: GPL-2.0-only
"""One mutant: built, tested until a test notices, and judged."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from harness.behaviours.mutants import load_mutants
from harness.cli.child_commands import Command, Lane
from harness.errors import ExitCode
from harness.report.base import CheckOutcome
from harness.report.suite_results import TestReport
from harness.resources import Resource, resource_dir
from harness.tools.mutants.likely_rules import changed_places, rules_near
from harness.tools.mutants.reached import in_order, reached_by
from harness.tools.mutants.results import MutantResult
from harness.tools.mutants.selftests_verdict import judge_upstream, run_selftests
from harness.tools.mutants.which_tests import by_rule, catches, may_not_boot, plan_tests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.behaviours.mutants import Mutant
    from harness.cli.child_commands import Done, RunCommand
    from harness.report.suite_results import TestResult
    from harness.tools.mutants.conditions import Conditions

_NOT_A_MUTANT = {
    "PatchDoesNotApply": CheckOutcome.DOES_NOT_APPLY,
    "KernelBuildFailed": CheckOutcome.DOES_NOT_BUILD,
}
_JUDGED = (CheckOutcome.CAUGHT, CheckOutcome.SURVIVED)
_NO_TEST = "the rules that it breaks have no test, and no other test was to run"


def not_run(mutant: Mutant) -> MutantResult:
    """Return the result of a mutant that has not been built or tested."""
    return MutantResult(
        id=mutant.name,
        outcome=CheckOutcome.NOT_RUN,
        seconds=0.0,
        broken=mutant.broken,
        breaks=mutant.breaks,
        commit=mutant.commit,
        kernels=mutant.series,
        config=mutant.config,
        always=mutant.always,
        equivalent=mutant.equivalent,
        diff=mutant.diff,
    )


def judge(mutant: Mutant, conditions: Conditions, run: RunCommand) -> MutantResult:
    """Build a mutant, run tests on it until one notices, and return its result.

    Raises what ``run`` raises.
    """
    conditions = conditions.with_fragments(mutant.config)
    patch = ("--patch", str(mutant.path))
    name = _name(mutant, conditions)
    build = run(_obtain(f"{name}.build", conditions, patch))
    result = not_run(mutant).model_copy(update={"build_s": build.seconds})
    if build.code != 0:
        return _not_built(result, build)
    result = _judge_built(mutant, conditions, result, run)
    if not conditions.selftests or result.outcome not in _JUDGED:
        return result
    done = run(run_selftests(conditions, name=f"{name}.selftests", patch=patch))
    return result.model_copy(update={"upstream": judge_upstream(done)})


def judge_if_same(
    mutant: Mutant, conditions: Conditions, run: RunCommand, *, clean: str
) -> MutantResult:
    """Return the result of a mutant if the clean kernel has the digest ``clean`` here, too."""
    done = run(_obtain(f"{mutant.name}.clean", conditions))
    kernels = done.report.kernels if done.report is not None else ()
    if done.code != 0 or not kernels:
        return _error(not_run(mutant), done, 0.0)
    if kernels[0].digest != clean:
        detail = (
            f"the clean kernel here is {kernels[0].version}, {kernels[0].digest[:12]}, and not "
            f"{clean[:12]}: the sources or the compiler differ"
        )
        return _error(not_run(mutant), done, 0.0).model_copy(update={"detail": detail})
    return judge(mutant, conditions, run)


def _judge_built(
    mutant: Mutant, conditions: Conditions, result: MutantResult, run: RunCommand
) -> MutantResult:
    patch = ("--patch", str(mutant.path))
    name = _name(mutant, conditions)
    tested: list[TestResult] = []
    seconds = 0.0
    for number, tests in enumerate(_phases(mutant, conditions), start=1):
        done = run(
            command_for_tests(tests, conditions, name=f"{name}.tests{number}", options=patch)
        )
        seconds += done.seconds
        if not isinstance(done.report, TestReport) or not done.report.results:
            return _error(result, done, seconds)
        tested += done.report.results
        if any(test.outcome is CheckOutcome.FAILED for test in done.report.results):
            break
    if may_not_boot(tested):
        # With nothing on standard input it runs an empty script.
        done = run(
            Command(
                lane=Lane.RUN,
                name=f"{name}.boot",
                arguments=("boot", *conditions.kernel, *patch, "--accel", conditions.accel),
                reports=False,
            )
        )
        seconds += done.seconds
        if done.code == ExitCode.VERDICT:
            return result.model_copy(
                update={
                    "outcome": CheckOutcome.DOES_NOT_BOOT,
                    "seconds": seconds,
                    "detail": (tested[0].detail or "").partition("\n\n")[0],
                }
            )
    return _verdict(result, tested, seconds)


def _phases(mutant: Mutant, conditions: Conditions) -> tuple[tuple[str, ...], ...]:
    """Return the tests of each of the runs that follow each other until one notices."""
    # A mutant that names no rules is tried with those of its neighbours first.
    known = load_mutants(resource_dir(Resource.KERNEL_MUTANTS))
    rules = mutant.breaks or rules_near(changed_places(mutant.diff), known)
    phases = plan_tests(
        rules,
        conditions.carriers,
        builds=conditions.builds,
        without=conditions.without,
        rules_only=conditions.rules_only and bool(mutant.breaks) and not conditions.everything,
    )
    if conditions.lines is not None:
        first = reached_by(mutant, conditions.lines, conditions.carriers).tests
        phases = tuple(in_order(tests, first) for tests in phases)
    return (tuple(itertools.chain(*phases)),) if conditions.everything else phases


def _name(mutant: Mutant, conditions: Conditions) -> str:
    """Return what the files of the mutant's commands are named after."""
    without = len(conditions.without)
    return f"{mutant.name}.without{without}" if without else mutant.name


def _obtain(name: str, conditions: Conditions, options: Sequence[str] = ()) -> Command:
    return Command(
        lane=Lane.BUILD,
        name=name,
        arguments=("kernel", "build", *conditions.kernel, *options),
    )


def command_for_tests(
    tests: Sequence[str], conditions: Conditions, *, name: str, options: Sequence[str] = ()
) -> Command:
    """Return the command that runs these tests, on the clean kernel unless the options patch it."""
    stop = () if conditions.everything or not options else ("-x",)
    return Command(
        lane=Lane.RUN,
        name=name,
        arguments=(
            "test",
            *conditions.kernel,
            *options,
            *("--accel", conditions.accel),
            *("--guests", str(min(conditions.guests, len(tests)))),
            *stop,
            *("-q", "--no-header", "-p", "no:cacheprovider"),
            *(str(conditions.suite / test) for test in tests),
        ),
    )


def _verdict(result: MutantResult, tested: Sequence[TestResult], seconds: float) -> MutantResult:
    found = catches(tested, result.breaks)
    errors = [test for test in tested if test.outcome is CheckOutcome.ERROR]
    outcome = CheckOutcome.CAUGHT if found else CheckOutcome.SURVIVED
    detail = None if tested else _NO_TEST
    if errors and not found:
        outcome, detail = CheckOutcome.ERROR, errors[0].detail
    return result.model_copy(
        update={
            "outcome": outcome,
            "seconds": seconds,
            "caught_by": found,
            "tests": len(tested),
            "rules": by_rule(tested),
            "detail": detail,
        }
    )


def _not_built(result: MutantResult, done: Done) -> MutantResult:
    error = done.report.error if done.report is not None else None
    outcome = _NOT_A_MUTANT.get(error.kind) if error is not None else None
    if error is None or outcome is None:
        return _error(result, done, 0.0)
    detail = "\n".join([error.message, *error.details])
    return result.model_copy(update={"outcome": outcome, "detail": detail})


def _error(result: MutantResult, done: Done, seconds: float) -> MutantResult:
    error = done.report.error if done.report is not None else None
    detail = error.message if error is not None else done.last_lines()
    return result.model_copy(
        update={"outcome": CheckOutcome.ERROR, "seconds": seconds, "detail": detail}
    )
