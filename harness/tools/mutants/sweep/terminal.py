# SPDX-License-Identifier: GPL-2.0-only
"""A sweep in the terminal: a line for each mutant, the survivors with their diffs, the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep.scores import COUNTED, changed, score, scores_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.mutants.sweep.kernel_of_mutants import LeftOut
    from harness.tools.mutants.sweep.results import LeftOutMutant, SweepResult
    from harness.tools.mutants.sweep.scores import Score

_STYLES = {
    CheckOutcome.CAUGHT: "green",
    CheckOutcome.SURVIVED: "bold red",
    CheckOutcome.UNCOVERED: "red",
    CheckOutcome.ERROR: "bold magenta",
}
_MOST_TESTS = 3
_WIDTH = 28


def print_left_out(
    terminal: Terminal,
    left_out: Sequence[LeftOut | LeftOutMutant],
    unread: Mapping[str, Sequence[int]],
) -> None:
    """Print which mutants cannot be had, and which lines the parser could not read."""
    if left_out:
        terminal.print(f"{len(left_out)} mutants are left out:")
        terminal.print(*(f"    {each.name}: {each.why}" for each in left_out))
    for name, lines in unread.items():
        if lines:
            terminal.print(f"not read in {name}: lines {', '.join(str(line) for line in lines)}")


def print_result(terminal: Terminal, result: SweepResult, *, unit: str = "tests") -> None:
    """Print what became of a mutant, in a line or two; ``unit`` is what passed on a survivor."""
    line = Text(f"{result.outcome.value:10} ", style=_STYLES.get(result.outcome, ""))
    line.append(result.id, style="bold")
    line.append(f"  {result.place}  {_why(result, unit)}")
    terminal.print(line)


def _why(result: SweepResult, unit: str) -> str:
    if result.noticed is not None:
        how = "" if result.noticed.how == "test" else f" ({result.noticed.how})"
        return f"{result.seconds:.0f} s  {result.noticed.test.rpartition('/')[2]}{how}"
    if result.detail is not None:
        return result.detail
    count = len(result.ran)
    return f"{result.seconds:.0f} s  {count} {unit if count != 1 else unit[:-1]} passed"


def print_summary(terminal: Terminal, results: Sequence[SweepResult]) -> None:
    """Print the survivors, what changed, and the scores."""
    for result in results:
        if result.outcome is CheckOutcome.SURVIVED:
            terminal.print("", Text(f"survived: {result.id}", style="bold red"))
            terminal.print(*(f"    {text}" for text in _about(result)))
            terminal.print(result.diff.rstrip())
    news = changed(results)
    if news:
        terminal.print("", "other outcomes than in the last sweep:")
        terminal.print(*(f"    {each.id}: {each.before} -> {each.outcome}" for each in news))
    terminal.print("", *table(results))


def _about(result: SweepResult) -> Iterator[str]:
    reached = (
        f"; {result.reached} tests reach it, in {result.differs} it makes a difference"
        if result.reached
        else ""
    )
    yield f"{result.file}:{result.line} in {result.place}, {result.operator}{reached}"
    if result.detail is not None:
        yield result.detail
    for test in result.ran[:_MOST_TESTS]:
        yield f"passed: {test}"
    if len(result.ran) > _MOST_TESTS:
        yield f"and {len(result.ran) - _MOST_TESTS} more"


def table(results: Sequence[SweepResult]) -> list[str]:
    """Return the scores by file and by operator, and of all."""
    heads = "  ".join(f"{each.value:>10}" for each in COUNTED)
    lines = [f"{'':{_WIDTH}}  {heads}  {'caught, %':>10}"]
    lines += [_row(each) for each in scores_by(results, lambda result: result.file)]
    lines.append("")
    lines += [_row(each) for each in scores_by(_sorted(results), lambda result: result.operator)]
    return [*lines, "", _row(score("all", results))]


def _sorted(results: Sequence[SweepResult]) -> list[SweepResult]:
    return sorted(results, key=lambda result: result.operator)


def _row(each: Score) -> str:
    counts = "  ".join(f"{each.counts[outcome]:>10}" for outcome in COUNTED)
    return f"{each.name:{_WIDTH}}  {counts}  {each.percent:>10}"
