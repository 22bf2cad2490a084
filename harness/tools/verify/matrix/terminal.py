# SPDX-License-Identifier: GPL-2.0-only
"""A matrix in the terminal: a line for each cell when it ends, and the table of all of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.report.base import CheckOutcome
from harness.report.terminal import LineProgress, Terminal, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.report.terminal import TerminalProgress
    from harness.tools.verify.matrix.plan import MatrixPlan
    from harness.tools.verify.results import CellResult

_STYLES = {
    CheckOutcome.PASSED: "green",
    CheckOutcome.WARNED: "yellow",
    CheckOutcome.FAILED: "bold red",
    CheckOutcome.ERROR: "bold magenta",
    CheckOutcome.NOT_RUN: "dim",
}
_WIDTH = 7
NOT_FOR = "-"
MISSING = "?"


class PlainProgress(Terminal):
    """A terminal on which several threads show progress: in lines, never by a bar."""

    @contextlib.contextmanager
    def progress(self) -> Iterator[TerminalProgress]:
        """Show the progress of long work in lines with times."""
        lines = LineProgress(self.note)
        yield lines
        lines.finish()


def print_cell(terminal: Terminal, result: CellResult) -> None:
    """Print how a cell has ended, and what was found when it did not pass."""
    line = Text(f"{result.outcome.value:{_WIDTH}} ", style=_STYLES.get(result.outcome, ""))
    line.append(result.id, style="bold")
    line.append(f"  {result.seconds:.0f} s")
    terminal.print(line)
    if result.outcome is CheckOutcome.PASSED:
        return
    terminal.prose(f"        {printable(result.detail)}", indent="        ")
    if result.error is not None and result.error.hint:
        terminal.prose(f"        hint: {result.error.hint}", indent="        ")


def print_table(
    terminal: Terminal, plan: MatrixPlan, results: Mapping[tuple[str, str], CellResult]
) -> None:
    """Print the table: a row for each patch, a column for each kernel."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("patch", no_wrap=True)
    for column in plan.columns:
        table.add_column(column.name, no_wrap=True)
    for row in plan.rows:
        texts = [Text(printable(row))]
        for column in plan.columns:
            result = results.get((row, column.name))
            if result is not None:
                style = _STYLES.get(result.outcome, "")
                texts.append(Text(result.outcome.value, style=style))
            else:
                is_planned = plan.cell(row, column.name) is not None
                texts.append(Text(MISSING if is_planned else NOT_FOR, style="dim"))
        table.add_row(*texts)
    terminal.print("", table, "")
    terminal.print(counts_of(list(results.values()), len(plan.cells)))


def counts_of(results: Sequence[CellResult], planned: int) -> str:
    """Return in words how many cells have which outcome."""
    counts = Counter(result.outcome.value for result in results)
    words = [f"{number} {outcome}" for outcome, number in counts.most_common()]
    missing = planned - len(results)
    if missing:
        words.append(f"{missing} without a result")
    return f"{planned} {'cell' if planned == 1 else 'cells'}: {', '.join(words)}"
