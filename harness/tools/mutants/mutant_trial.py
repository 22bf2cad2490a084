# SPDX-License-Identifier: GPL-2.0-only
"""One mutant: built, tested until a test notices, and judged."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from harness.behaviours.mutants import load_mutants
from harness.cli.child_commands import Command, Lane
from harness.errors import ExitCode
from harness.report.base import CheckOutcome
from harness.report.suite_results import TestReport
from harness.resources import Resource, resource_dir
from harness.tools.mutants.likely_rules import rules_near
from harness.tools.mutants.results import MutantResult
from harness.tools.mutants.selftests_verdict import judge_upstream, run_selftests
from harness.tools.mutants.which_tests import by_rule, catches, may_not_boot, plan_tests

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from harness.behaviours.mutants import Mutant
    from harness.cli.child_commands import Done
    from harness.report.suite_results import TestResult
    from harness.tools.mutants.conditions import Conditions

_NOT_A_MUTANT = {
    "PatchDoesNotApply": CheckOutcome.DOES_NOT_APPLY,
    "KernelBuildFailed": CheckOutcome.DOES_NOT_BUILD,
}
_JUDGED = (CheckOutcome.CAUGHT, CheckOutcome.SURVIVED)
_LAST_LINES = 5
_NO_TEST = "no test is about the rules that it breaks, and no other was to run"


def not_run(mutant: Mutant) -> MutantResult:
    """Return what is known of a mutant before anything is done with it."""
    return MutantResult(
        id=mutant.name,
        outcome=CheckOutcome.NOT_RUN,
        seconds=0.0,
        broken=mutant.broken,
        breaks=mutant.breaks,
        commit=mutant.commit,
        kernels=mutant.series,
        always=mutant.always,
        equivalent=mutant.equivalent,
        diff=mutant.diff,
    )


def judge(mutant: Mutant, conditions: Conditions) -> Generator[Command, Done, MutantResult]:
    """Yield the commands that a mutant needs, and return what it came to."""
    patch = ("--patch", str(mutant.path))
    build = yield Command(
        lane=Lane.BUILD,
        name=f"{mutant.name}.build",
        arguments=("kernel", "build", *conditions.kernel, *patch),
    )
    result = not_run(mutant).model_copy(update={"build_s": build.seconds})
    if build.code != 0:
        return _not_built(result, build)
    result = yield from _judge_built(mutant, conditions, result)
    if not conditions.selftests or result.outcome not in _JUDGED:
        return result
    done = yield run_selftests(conditions, name=f"{mutant.name}.selftests", patch=patch)
    return result.model_copy(update={"upstream": judge_upstream(done)})


def _judge_built(
    mutant: Mutant, conditions: Conditions, result: MutantResult
) -> Generator[Command, Done, MutantResult]:
    patch = ("--patch", str(mutant.path))
    # One that says nothing of rules is tried with those of its neighbours first.
    likely = mutant.breaks or rules_near(mutant, _catalogue())
    plan = plan_tests(
        likely, conditions.carriers, builds=conditions.builds, without=conditions.without
    )
    phases = plan.phases(rules_only=conditions.rules_only and bool(mutant.breaks))
    if conditions.everything:
        phases = (tuple(test for phase in plan.phases() for test in phase),)
    tested: list[TestResult] = []
    seconds = 0.0
    for number, tests in enumerate(phases, start=1):
        done = yield command_for_tests(
            tests, conditions, name=f"{mutant.name}.tests{number}", options=patch
        )
        seconds += done.seconds
        if not isinstance(done.report, TestReport) or not done.report.results:
            return _error(result, done, seconds)
        tested += done.report.results
        if any(test.outcome is CheckOutcome.FAILED for test in done.report.results):
            break
    if may_not_boot(tested):
        done = yield Command(
            lane=Lane.RUN,
            name=f"{mutant.name}.boot",
            # With nothing on standard input it runs an empty script.
            arguments=("boot", *conditions.kernel, *patch, "--accel", conditions.accel),
            reports=False,
        )
        seconds += done.seconds
        if done.code == ExitCode.VERDICT:
            detail = (tested[0].detail or "").partition("\n\n")[0]
            return result.model_copy(
                update={
                    "outcome": CheckOutcome.DOES_NOT_BOOT,
                    "seconds": seconds,
                    "detail": detail,
                }
            )
    return _verdict(result, tested, seconds)


@functools.cache
def _catalogue() -> tuple[Mutant, ...]:
    return load_mutants(resource_dir(Resource.KERNEL_MUTANTS))


def clean_kernel(mutant: Mutant, conditions: Conditions) -> Command:
    """Return the command that obtains the kernel without the mutant."""
    return Command(
        lane=Lane.BUILD,
        name=f"{mutant.name}.clean",
        arguments=("kernel", "build", *conditions.kernel),
    )


def failed(mutant: Mutant, done: Done) -> MutantResult:
    """Return the result of a mutant of which a command failed that is not its own fault."""
    return _error(not_run(mutant), done, 0.0)


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
    failed = [test for test in tested if test.outcome is CheckOutcome.ERROR]
    outcome = CheckOutcome.CAUGHT if found else CheckOutcome.SURVIVED
    detail = None if tested else _NO_TEST
    if failed and not found:
        outcome, detail = CheckOutcome.ERROR, failed[0].detail
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
    said = done.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    detail = error.message if error is not None else "\n".join(said)
    return result.model_copy(
        update={"outcome": CheckOutcome.ERROR, "seconds": seconds, "detail": detail}
    )
