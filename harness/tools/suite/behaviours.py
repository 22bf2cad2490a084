# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness behaviours: the rules, the tests of each, and their latest results."""

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
        typer.Argument(metavar="RULE", help="Only these rules, each with its tests: TR-01, or TR."),
    ] = (),
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            metavar="K",
            help="Show the results on this kernel: a series or release (6.1, 6.1.192), a digest, "
            "what --kernel of the test command was, or the name of a patch. Default: all "
            "kernels without patches.",
        ),
    ] = None,
    *,
    files: ResultFiles,
) -> int:
    """Show the rules of live patching, their tests, and the latest results on each kernel.

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
    """Return a rule with its outcome on each kernel; ``seconds`` are those of all its tests."""
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


def choose_kernels(known: Sequence[KernelHistory], named: str | None) -> Sequence[KernelHistory]:
    """Return the kernels of that name; without one all but the patched ones, which are mutants.

    Raises UsageError when there are results of other kernels only.
    """
    if named is None:
        return [kernel for kernel in known if not _is_patched(kernel)]
    found = [kernel for kernel in known if _is_named(kernel, named)]
    if not found:
        recorded = ", ".join(sorted({kernel.kernel.version for kernel in known})) or "none"
        raise UsageError(
            f"no test has run on a kernel {named}",
            hint=f"there are results of: {recorded}; `klp-harness test --kernel {named}` adds some",
        )
    return found


def _is_patched(known: KernelHistory) -> bool:
    # As harness.vm.kernel.patched names them.
    return " + " in known.kernel.source


def _is_named(known: KernelHistory, named: str) -> bool:
    facts = known.kernel
    if _DIGEST.fullmatch(named) and facts.digest.startswith(named):
        return True
    if _is_patched(known):
        return named in facts.source.split(" + ")[1:]
    return named in (facts.spec, facts.version) or facts.version.startswith(f"{named}.")


def _choose_rules(table: Table, names: Sequence[str]) -> Sequence[Rule]:
    if not names:
        return table.rule
    found: list[Rule] = []
    for name in names:
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
    shown = ""
    for result in results:
        section = result.id.partition("-")[0]
        if section != shown:
            grid.add_row("", Text(by_section[section], style="bold"))
            shown = section
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
    """Print the number of each outcome on each kernel, and each rule that was not as expected."""
    without = [result.id for result in results if not result.tests]
    terminal.print(f"{len(results)} rules, {len(results) - len(without)} with tests")
    if without:
        terminal.prose(f"without a test: {', '.join(without)}", indent="  ")
    for number, kernel in enumerate(known):
        counts = Counter(result.kernels[number].outcome for result in results)
        numbers = ", ".join(f"{count} {outcome.value}" for outcome, count in counts.most_common())
        terminal.print(f"{kernel.kernel.version} ({kernel.kernel.source}): {numbers}")
        for result in results:
            there = result.kernels[number]
            if not there.as_expected:
                why = reason_of(there.detail)
                difference = f"{result.id} {there.outcome.value}, expected: {there.expected.value}"
                terminal.print(f"  {difference}{f'; {why}' if why else ''}")
    if not known:
        terminal.print("no results: `klp-harness test` records them")


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
        expected = "" if there.as_expected else f", expected: {there.expected.value}"
        at = f", {there.at}" if there.at else ""
        terminal.print(f"  {there.version} ({there.source}): {there.outcome.value}{expected}{at}")
        for test in result.tests:
            terminal.print(f"    {outcome_of(test, kernel).value:16} {test}")
        if there.detail and there.outcome is not CheckOutcome.PASSED:
            terminal.prose(f"    {reason_of(there.detail)}", indent="      ")
    if not known:
        for test in result.tests:
            terminal.print(f"    {test}")


def _outcome(there: RuleOnKernel) -> Text:
    style = _STYLES.get(there.outcome, "yellow")
    return Text(_SHORT.get(there.outcome, there.outcome.value), style=style)
