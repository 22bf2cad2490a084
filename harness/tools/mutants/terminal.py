# SPDX-License-Identifier: GPL-2.0-only
"""Kernel mutants in the terminal: a line for each, survivors with their diff."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from harness.report.base import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.terminal import Terminal
    from harness.tools.mutants.reached import Reached
    from harness.tools.mutants.results import MutantResult, UpstreamResult

_STYLES = {
    CheckOutcome.CAUGHT: "green",
    CheckOutcome.SURVIVED: "bold red",
    CheckOutcome.ERROR: "bold magenta",
}
_OUTCOME_WIDTH = 15
_MOST_CASES = 3
_MOST_TESTS = 3


def print_listed(terminal: Terminal, result: MutantResult) -> None:
    """Print a mutant of the catalogue."""
    terminal.print(Text(result.id, style="bold"))
    terminal.prose(f"    {result.broken}", indent="    ")
    facts = [f"breaks {' '.join(result.breaks) or '-'}"]
    facts += [f"commit {result.commit}"] if result.commit else []
    facts += [f"for {' '.join(result.kernels)}"] if result.kernels else []
    facts += [] if result.always else ["not in every run"]
    facts += ["no test can notice it"] if result.equivalent else []
    terminal.print(f"    {', '.join(facts)}")


def print_reached(terminal: Terminal, reached: Reached) -> None:
    """Print which tests run the lines that a mutant changes."""
    if not reached.lines:
        terminal.print("    changes no line with code in the files that were covered")
        return
    if reached.unknown and not reached.of_rules:
        terminal.prose(
            f"    what tests of its rules run is not known: {', '.join(reached.unknown)}",
            indent="    ",
        )
    count = len(reached.tests)
    named = ", ".join(reached.tests[:_MOST_TESTS])
    more = f", and {count - _MOST_TESTS} more" if count > _MOST_TESTS else ""
    tests = f"{count} {'test runs' if count == 1 else 'tests run'} the changed lines"
    terminal.prose(
        f"    {tests}, {len(reached.of_rules)} of its rules: {named or 'none'}{more}", indent="    "
    )


def print_result(terminal: Terminal, result: MutantResult) -> None:
    """Print the result of a mutant."""
    line = Text(f"{result.outcome.value:{_OUTCOME_WIDTH}} ", style=_STYLES.get(result.outcome, ""))
    line.append(result.id, style="bold")
    line.append(f"  {result.build_s:.0f} s build, {result.seconds:.0f} s tests")
    terminal.print(line)
    for catch in result.caught_by:
        rules = " ".join(catch.rules)
        beside = "" if catch.expected or not result.breaks else " (not a rule that it breaks)"
        terminal.print(f"    {catch.test} [{rules}]{beside}", f"        {catch.reason}")
    if result.outcome is CheckOutcome.SURVIVED and result.equivalent:
        terminal.prose(f"    no test can notice it: {result.equivalent}", indent="    ")
    if result.detail:
        terminal.print(*(f"    {text}" for text in result.detail.splitlines()[:8]))
    if result.upstream is not None:
        _print_upstream(terminal, result.upstream)


def print_summary(terminal: Terminal, results: Sequence[MutantResult]) -> None:
    """Print the survivors with their diffs, then the counts."""
    for result in results:
        if result.is_news:
            terminal.print("", Text(f"survived: {result.id}", style="bold red"))
            terminal.prose(f"    {result.broken}", indent="    ")
            terminal.print(result.diff.rstrip())
    counts = Counter(result.outcome.value for result in results)
    by_outcome = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    what = "mutant" if len(results) == 1 else "mutants"
    terminal.print("", f"{len(results)} {what}: {by_outcome}")
    upstream = [result.upstream for result in results if result.upstream is not None]
    if upstream:
        caught = sum(one.outcome is CheckOutcome.CAUGHT for one in upstream)
        terminal.print(f"the kernel's own selftests: {caught} of {len(upstream)} caught")


def _print_upstream(terminal: Terminal, upstream: UpstreamResult) -> None:
    terminal.print(
        f"    the kernel's own selftests: {upstream.outcome.value}, {upstream.seconds:.0f} s"
    )
    terminal.print(*(f"        {case}" for case in upstream.failed[:_MOST_CASES]))
    if upstream.detail:
        terminal.print(*(f"        {text}" for text in upstream.detail.splitlines()[:_MOST_CASES]))
