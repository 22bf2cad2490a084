# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness matrix: the behaviour suite on several kernels, as a table of rules and kernels."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from harness.behaviours.latest_results import History
from harness.behaviours.rule_tests import carriers_of_rules
from harness.behaviours.table import load_table
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, kernel_facts, write_file
from harness.cli.options import Accel, AccelAsked, Guests, KernelsOptions, ResultFiles, Smp
from harness.cli.pages import HtmlPage
from harness.errors import ExitCode
from harness.resources import Resource, resource_dir, results_root
from harness.tools.suite.behaviours import as_expected, print_counts, print_table, result_of
from harness.tools.suite.matrix_page import rule_matrix_page
from harness.tools.suite.run_suite import SuiteAsked, run_suite
from harness.vm.kernel.spec import SERIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.behaviours.results import BehaviourResult


@guarded
def matrix(
    arguments: Annotated[
        tuple[str, ...],
        typer.Argument(metavar="PYTEST_ARG", help="Handed to pytest: -k, -x, --fresh=boot."),
    ] = (),
    *,
    kernels: KernelsOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
    guests: Guests = None,
    html: HtmlPage = None,
) -> int:
    """Run the behaviour suite on several kernels, by default all series; print rule x kernel.

    Exit code 1 when a rule comes to something else than the table expects of a kernel.
    """
    with Invocation("matrix", files) as invocation:
        check_writable(html)
        folder = resource_dir(Resource.BEHAVIOUR_TESTS)
        asked = SuiteAsked(kernels=kernels.each(SERIES), accel=accel, smp=smp, guests=guests)
        ran = run_suite(invocation, asked, [*arguments, str(folder)])
        facts = [kernel_facts(made) for made in invocation.kernels]
        history = History(folder=results_root(), suite=folder)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        known = history.of_run(ran.results, facts, at=now)
        table, tests = load_table(), carriers_of_rules(folder)
        results = [result_of(rule, tests.get(rule.id, ()), known) for rule in table.rule]
        invocation.results += results
        print_table(invocation.terminal, table, results, known)
        print_counts(invocation.terminal, results, known)
        if html is not None:
            sections = {section.id: section.title for section in table.section}
            write_file(html, rule_matrix_page(results, facts, sections))
        invocation.exit_code = exit_code(ran.exit_code, results)
    return invocation.exit_code


def exit_code(of_tests: ExitCode, results: Iterable[BehaviourResult]) -> ExitCode:
    """Return what the run ends with.

    That a test passes where the table has a failure is news too, and so is one that skips.
    """
    unlike = any(not as_expected(there) for result in results for there in result.kernels)
    return ExitCode.VERDICT if of_tests is ExitCode.HELD and unlike else of_tests
