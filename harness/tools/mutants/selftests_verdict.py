# SPDX-License-Identifier: GPL-2.0-only
"""Whether the kernel's own selftests catch a mutant, to compare the behaviour suite with them.

They run as ``klp-harness selftests`` runs them: on the mutant, and those that fail there on the
clean kernel as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.child_commands import Command, Lane
from harness.report.base import CheckOutcome
from harness.tools.mutants.results import UpstreamResult
from harness.tools.selftests.results import SelftestReport

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harness.cli.child_commands import Done, RunCommand
    from harness.tools.mutants.conditions import Conditions
    from harness.tools.mutants.results import MutantResult

_CLEAN = "clean-kernel.selftests"
_ERROR = "ERROR:"


def run_selftests(
    conditions: Conditions,
    *,
    name: str,
    patch: Sequence[str] = (),
    scripts: Collection[str] = (),
) -> Command:
    """Return the command that runs selftest scripts, all without ``scripts``.

    On a mutant, given as the options ``patch``, it stops at the first script that fails, unless
    ``everything`` is to run.
    """
    stop = ("--stop",) if patch and not conditions.everything else ()
    return Command(
        lane=Lane.RUN,
        name=name,
        arguments=(
            "selftests",
            *conditions.kernel,
            *patch,
            *("--accel", conditions.accel),
            *("--guests", str(conditions.guests)),
            *stop,
            *sorted(scripts),
        ),
    )


def judge_upstream(done: Done) -> UpstreamResult:
    """Return the outcome of a run of the selftests on a mutant.

    A kernel that dies under a script fails its case. An error that ends the run itself is no result
    of the scripts: the harness or the host failed, or a guest did not start.
    """
    report = done.report if isinstance(done.report, SelftestReport) else None
    results = report.results if report is not None else ()
    failed = [result for result in results if result.outcome is CheckOutcome.FAILED]
    ran = {result.script for result in results if result.outcome is not CheckOutcome.NOT_RUN}
    error = done.report.error if done.report is not None else None
    if failed:
        outcome, detail = CheckOutcome.CAUGHT, _reason(failed[0].detail)
    elif error is not None:
        outcome, detail = CheckOutcome.ERROR, f"{error.kind}: {error.message}"
    elif not ran:
        outcome, detail = CheckOutcome.ERROR, done.last_lines()
    else:
        outcome, detail = CheckOutcome.SURVIVED, None
    return UpstreamResult(
        outcome=outcome,
        failed=tuple(result.id for result in failed),
        scripts=len(ran),
        seconds=done.seconds,
        detail=detail,
    )


def without_broken_selftests(
    results: Sequence[MutantResult], conditions: Conditions, run: RunCommand
) -> list[MutantResult]:
    """Run the scripts that caught a mutant on the clean kernel, and return the results without the
    cases of those that fail there too.
    """
    scripts = {_script(case) for result in results for case in _failed(result)}
    if not scripts:
        return list(results)
    hold = _hold_on_clean(scripts, conditions, run)
    return [amended_upstream(result, hold) for result in results]


def amended_upstream(result: MutantResult, hold: Collection[str]) -> MutantResult:
    """Return a result with those failed cases alone whose scripts pass on the clean kernel."""
    kept = tuple(case for case in _failed(result) if _script(case) in hold)
    dropped = tuple(case for case in _failed(result) if case not in kept)
    if result.upstream is None or not dropped:
        return result
    changed: dict[str, object] = {"failed": kept, "on_clean": dropped}
    if not kept:
        changed |= {
            "outcome": CheckOutcome.SURVIVED,
            "detail": f"only {', '.join(dropped)} failed, and the script fails on the clean kernel",
        }
    return result.model_copy(update={"upstream": result.upstream.model_copy(update=changed)})


def _hold_on_clean(scripts: set[str], conditions: Conditions, run: RunCommand) -> set[str]:
    report = run(run_selftests(conditions, name=_CLEAN, scripts=scripts)).report
    if not isinstance(report, SelftestReport) or report.error is not None:
        # A script without a result proves nothing.
        return set()
    return scripts - {
        _script(case.id) for case in report.results if case.outcome is not CheckOutcome.PASSED
    }


def _failed(result: MutantResult) -> tuple[str, ...]:
    return result.upstream.failed if result.upstream is not None else ()


def _script(case: str) -> str:
    return case.partition("/")[0]


def _reason(detail: Sequence[str]) -> str | None:
    """Return the line that says most: what the script calls an error, or the last one."""
    errors = [line for line in detail if _ERROR in line]
    return next(iter(errors), detail[-1] if detail else None)
