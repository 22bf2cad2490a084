# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness behaviours: the rules, the tests of each, and what these last came to."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as Grid
from rich.text import Text

from harness.behaviours.latest_results import History, on_kernel, outcome_of, seconds_of, worst
from harness.behaviours.results import BehaviourResult
from harness.behaviours.rule_tests import find_rule_tests
from harness.behaviours.table import load_table
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import ResultFiles
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.report.reason import reason_of
from harness.resources import Resource, resource_dir, results_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.behaviours.latest_results import KernelHistory
    from harness.behaviours.results import RuleOnKernel
    from harness.behaviours.table import Rule, Table
    from harness.report.base import KernelFacts
    from harness.report.terminal import Terminal

_STYLES = {
    CheckOutcome.PASSED: "green",
    CheckOutcome.FAILED: "bold red",
    CheckOutcome.ERROR: "bold magenta",
    CheckOutcome.NOT_RUN: "dim",
}
# A cell has to be narrow: the table has a column for each kernel.
_SHORT = {
    CheckOutcome.PASSED: "pass",
    CheckOutcome.EXPECTED_FAILURE: "xfail",
    CheckOutcome.NOT_APPLICABLE: "n/a",
    CheckOutcome.NOT_RUN: "-",
}
_LEAST_OF_TEXT = 12
_DIGEST = re.compile(r"[0-9a-f]{6,}")


@guarded
def behaviours(
    rule: Annotated[
        tuple[str, ...],
        typer.Argument(metavar="RULE", help="Only these, each with its tests: TR-01, or TR."),
    ] = (),
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            metavar="K",
            help="Results on this kernel: a series or release (6.1, 6.1.192), a digest, what "
            "--kernel of the test command was, or the name of a patch. Default: every kernel "
            "without patches.",
        ),
    ] = None,
    *,
    files: ResultFiles,
) -> int:
    """Show each rule of live patching with its tests and their last results on each kernel.

    `klp-harness test` records the results; nothing is run here. Exit code 1 when a rule failed.
    """
    with Invocation("behaviours", files) as invocation:
        table = load_table()
        suite = resource_dir(Resource.BEHAVIOUR_TESTS)
        known = choose_kernels(History(folder=results_root(), suite=suite).kernels(), kernel)
        invocation.known_kernels = tuple(each.kernel for each in known)
        tests = find_rule_tests(suite)
        rules = _choose_rules(table, rule)
        results = [result_of(each, tests.get(each.id, ()), known) for each in rules]
        if rule:
            for each, result in zip(rules, results, strict=True):
                _print_rule(invocation.terminal, each, result, known)
        else:
            print_table(invocation.terminal, table, results, known)
            print_counts(invocation.terminal, results, known)
        invocation.results += results
    return invocation.exit_code


def result_of(rule: Rule, tests: Sequence[str], known: Sequence[KernelHistory]) -> BehaviourResult:
    """Return a rule with what it came to on each kernel; ``seconds`` are those of all its tests."""
    kernels = tuple(on_kernel(rule, tests, kernel) for kernel in known)
    return BehaviourResult(
        id=rule.id,
        outcome=worst(kernel.outcome for kernel in kernels),
        seconds=sum(seconds_of(tests, kernel) for kernel in known),
        holds=rule.holds,
        tests=tuple(tests),
        source=rule.source,
        public=rule.public,
        kernels=kernels,
    )


def choose_kernels(known: Sequence[KernelHistory], asked: str | None) -> Sequence[KernelHistory]:
    """Return the kernels asked for; with no wish all but the patched ones, which are mutants.

    Raises UsageError when there are results of other kernels only.
    """
    if asked is None:
        return [kernel for kernel in known if not _is_patched(kernel)]
    found = [kernel for kernel in known if _is_asked(kernel, asked)]
    if not found:
        recorded = ", ".join(sorted({kernel.kernel.version for kernel in known})) or "none"
        raise UsageError(
            f"no test has run on a kernel {asked}",
            hint=f"there are results of: {recorded}; `klp-harness test --kernel {asked}` adds some",
        )
    return found


def _is_patched(known: KernelHistory) -> bool:
    # As harness.vm.kernel.patched names them.
    return " + " in known.kernel.source


def _is_asked(known: KernelHistory, asked: str) -> bool:
    facts = known.kernel
    if _DIGEST.fullmatch(asked) and facts.digest.startswith(asked):
        return True
    if _is_patched(known):
        return asked in facts.source.split(" + ")[1:]
    return asked in (facts.spec, facts.version) or facts.version.startswith(f"{asked}.")


def _choose_rules(table: Table, asked: Sequence[str]) -> Sequence[Rule]:
    if not asked:
        return table.rule
    found: list[Rule] = []
    for name in asked:
        wanted = name.upper()
        some = [rule for rule in table.rule if wanted in (rule.id, rule.section)]
        if not some:
            sections = ", ".join(section.id for section in table.section)
            raise UsageError(f"there is no rule {name}", hint=f"sections are {sections}")
        found += [rule for rule in some if rule not in found]
    return found


def print_table(
    terminal: Terminal,
    table: Table,
    results: Sequence[BehaviourResult],
    known: Sequence[KernelHistory],
) -> None:
    """Print the rules, a column for each kernel."""
    by_section: Mapping[str, str] = {section.id: section.title for section in table.section}
    grid = Grid(box=None, padding=(0, 2, 0, 0))
    ids = max((len(result.id) for result in results), default=0)
    grid.add_column("rule", no_wrap=True, min_width=ids)
    grid.add_column("what holds", ratio=1, min_width=_LEAST_OF_TEXT)
    grid.add_column("tests", justify="right")
    for kernel in known:
        grid.add_column(_heading(kernel.kernel), overflow="fold")
    told = ""
    for result in results:
        section = result.id.partition("-")[0]
        if section != told:
            grid.add_row("", Text(by_section[section], style="bold"))
            told = section
        grid.add_row(
            result.id,
            Text(result.holds.replace("`", "")),
            str(len(result.tests)),
            *(_outcome(kernel) for kernel in result.kernels),
        )
    terminal.print(grid)


def _heading(kernel: KernelFacts) -> str:
    # harness.vm.kernel.build names the fragments, where there are any, at the end of the source.
    _, _, flavour = kernel.source.partition(", with ")
    return "\n".join(filter(None, (kernel.version, flavour, kernel.digest[:6])))


def print_counts(
    terminal: Terminal, results: Sequence[BehaviourResult], known: Sequence[KernelHistory]
) -> None:
    """Print what the rules came to on each kernel in numbers, and each that came unexpected."""
    without = [result.id for result in results if not result.tests]
    terminal.print(f"{len(results)} rules, {len(results) - len(without)} with tests")
    if without:
        terminal.prose(f"without a test: {', '.join(without)}", indent="  ")
    for number, kernel in enumerate(known):
        counts = Counter(result.kernels[number].outcome for result in results)
        said = ", ".join(f"{count} {outcome.value}" for outcome, count in counts.most_common())
        terminal.print(f"{kernel.kernel.version} ({kernel.kernel.source}): {said}")
        for result in results:
            there = result.kernels[number]
            if not as_expected(there):
                why = reason_of(there.detail)
                said = f"{result.id} {there.outcome.value}, expected: {there.expected.value}"
                terminal.print(f"  {said}{f'; {why}' if why else ''}")
    if not known:
        terminal.print("no results: `klp-harness test` records what the tests come to")


def _print_rule(
    terminal: Terminal, rule: Rule, result: BehaviourResult, known: Sequence[KernelHistory]
) -> None:
    terminal.prose(f"{rule.id}  {rule.holds}", indent="       ")
    for name, text in (("source", rule.source), ("elsewhere", rule.public)):
        if text:
            terminal.print(f"  {name:10} {', '.join(text)}")
    for expectation in rule.expect:
        series = ", ".join(expectation.series)
        terminal.prose(f"  {series}: {expectation.outcome.value}, {expectation.why}", indent="    ")
    for kernel, there in zip(known, result.kernels, strict=True):
        said = f"  {there.version} ({there.source}): {there.outcome.value}"
        unlike = "" if as_expected(there) else f", expected: {there.expected.value}"
        terminal.print(f"{said}{unlike}{f', {there.at}' if there.at else ''}")
        for test in result.tests:
            terminal.print(f"    {outcome_of(test, kernel).value:16} {test}")
        if there.detail and there.outcome is not CheckOutcome.PASSED:
            terminal.prose(f"    {reason_of(there.detail)}", indent="      ")
    if not known:
        for test in result.tests:
            terminal.print(f"    {test}")


def as_expected(there: RuleOnKernel) -> bool:
    """Return whether a rule came to what the table expects of the kernel; not run counts so."""
    return there.outcome in (there.expected, CheckOutcome.NOT_RUN)


def _outcome(there: RuleOnKernel) -> Text:
    style = _STYLES.get(there.outcome, "yellow")
    return Text(_SHORT.get(there.outcome, there.outcome.value), style=style)
