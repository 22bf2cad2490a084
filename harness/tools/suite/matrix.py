# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness matrix: the behaviour suite on several kernels, as a table of rules and kernels."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from harness.behaviours.latest_results import History
from harness.behaviours.rule_tests import find_rule_tests
from harness.behaviours.table import load_table
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, kernel_facts, write_file
from harness.cli.options import Accel, AccelAsked, Guests, KernelsOptions, ResultFiles, Smp
from harness.cli.pages import HtmlPage
from harness.errors import ExitCode
from harness.report.html import render
from harness.resources import Resource, resource_dir, results_root
from harness.tools.suite.behaviours import print_counts, print_table, result_of
from harness.tools.suite.pytest_words import PytestArguments, words_for_pytest
from harness.tools.suite.run_suite import SuiteOptions, run_suite
from harness.vm.kernel.spec import SERIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.behaviours.results import BehaviourResult
    from harness.report.base import KernelFacts


@guarded
def matrix(
    context: typer.Context,
    arguments: PytestArguments = (),
    *,
    kernels: KernelsOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
    guests: Guests = None,
    html: HtmlPage = None,
) -> int:
    """Test several kernels for the rules of live patching; print a table of rules and kernels.

    Without --kernel these are 5.10, 6.1, 6.12 and the newest that the mirror has. Exit code 1 when
    a rule has another outcome on a kernel than the table expects.
    """
    with Invocation("matrix", files) as invocation:
        check_writable(html)
        folder = resource_dir(Resource.BEHAVIOUR_TESTS)
        options = SuiteOptions(kernels=kernels.each(SERIES), accel=accel, smp=smp, guests=guests)
        ran = run_suite(invocation, options, words_for_pytest(arguments, context))
        facts = [kernel_facts(made) for made in invocation.kernels]
        history = History(folder=results_root(), suite=folder)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        known = history.of_run(ran.results, facts, at=now)
        table, tests = load_table(), find_rule_tests(folder)
        results = [result_of(rule, tests.get(rule.id, ()), known) for rule in table.rule]
        invocation.results += results
        print_table(invocation.terminal, table, results, known)
        print_counts(invocation.terminal, results, known)
        if html is not None:
            sections = {section.id: section.title for section in table.section}
            page = rule_matrix_page(results, facts, sections, partial=ran.interrupt is not None)
            write_file(html, page)
        if ran.interrupt is not None:
            raise ran.interrupt
        invocation.exit_code = exit_code(ran.exit_code, results)
    return invocation.exit_code


def rule_matrix_page(
    results: Sequence[BehaviourResult],
    kernels: Sequence[KernelFacts],
    sections: Mapping[str, str],
    *,
    partial: bool = False,
) -> str:
    """Return the page: a row for each rule, a column for each kernel, in the order of both.

    ``sections`` are the titles by the first two letters of a rule's id.
    """
    counts = [
        Counter(result.kernels[number].outcome.value for result in results)
        for number in range(len(kernels))
    ]
    return render(
        "matrix_page.html.j2",
        str(__package__),
        results=results,
        kernels=kernels,
        counts=counts,
        sections=sections,
        partial=partial,
    )


def exit_code(of_tests: ExitCode, results: Iterable[BehaviourResult]) -> ExitCode:
    """Return the exit code of the run.

    A test that passes where the table expects a failure is a verdict too, and so is one that skips.
    """
    unexpected = any(not there.as_expected for result in results for there in result.kernels)
    return ExitCode.VERDICT if of_tests is ExitCode.HELD and unexpected else of_tests
