# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness matrix: the behaviour suite on several kernels, as a table of rules and kernels."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import TYPE_CHECKING, Annotated

import typer

from harness.behaviours.history import History
from harness.behaviours.suite import carriers_of_rules
from harness.behaviours.table import load_table
from harness.cli.behaviours import as_expected, result_of, tell_counts, tell_table
from harness.cli.guard import guarded
from harness.cli.invocation import Invocation, kernel_facts
from harness.cli.options import (
    AccelAsked,
    AccelOption,
    JsonFile,
    JunitFile,
    KernelConfig,
    KernelSpecs,
    Smp,
)
from harness.cli.pages import check_page, write_page
from harness.cli.suite import SuiteAsked, run_suite
from harness.errors import ExitCode
from harness.kernel.spec import SERIES
from harness.report.rule_matrix import rule_matrix_page
from harness.resources import Resource, resource_dir, results_root

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.report.rules import BehaviourResult


@guarded
def matrix(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PYTEST_ARG", help="Handed to pytest: -k, -x, --fresh=boot."),
    ] = None,
    kernel: KernelSpecs = None,
    kernel_config: KernelConfig = None,
    accel: AccelOption = AccelAsked.AUTO,
    smp: Smp = 2,
    guests: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Guests at a time; default: what the host can take."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the table as a page.")
    ] = None,
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
) -> int:
    """Run the behaviour suite on several kernels, by default all series; print rule x kernel.

    Exit code 1 when a rule comes to something else than the table expects of a kernel.
    """
    with Invocation("matrix", json_file=json_file, junit_file=junit_file) as invocation:
        check_page(html)
        folder = resource_dir(Resource.BEHAVIOUR_TESTS)
        asked = SuiteAsked(
            kernels=kernel or SERIES,
            kernel_config=kernel_config or (),
            accel=accel,
            smp=smp,
            guests=guests,
        )
        ran = run_suite(invocation, asked, [*(arguments or ()), str(folder)])
        facts = [kernel_facts(made) for made in invocation.kernels]
        history = History(folder=results_root(), suite=folder)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        known = history.of_run(ran.results, facts, at=now)
        table, tests = load_table(), carriers_of_rules(folder)
        results = [result_of(rule, tests.get(rule.id, ()), known) for rule in table.rule]
        invocation.results += results
        tell_table(invocation.terminal, table, results, known)
        tell_counts(invocation.terminal, results, known)
        if html is not None:
            sections = {section.id: section.title for section in table.section}
            write_page(html, rule_matrix_page(results, facts, sections))
        invocation.exit_code = exit_code(ran.exit_code, results)
    return invocation.exit_code


def exit_code(of_tests: ExitCode, results: Iterable[BehaviourResult]) -> ExitCode:
    """Return what the run ends with.

    That a test passes where the table has a failure is news too, and so is one that skips.
    """
    unlike = any(not as_expected(there) for result in results for there in result.kernels)
    return ExitCode.VERDICT if of_tests is ExitCode.HELD and unlike else of_tests
