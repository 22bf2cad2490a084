# SPDX-License-Identifier: GPL-2.0-only
"""``models compare`` in the terminal: a line for each finding, and the table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.errors import KlpError
from harness.report.base import CheckOutcome
from harness.tools.models.figures import amount, cell, was_tried
from harness.tools.models.rows import ROW, ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.terminal import Terminal
    from harness.tools.models.catalogue import Model
    from harness.tools.models.compare import Tried
    from harness.tools.models.findings import Finding
    from harness.tools.models.results import ComparedResult

_ACROSS = 5


def print_finding(terminal: Terminal, tried: Tried) -> None:
    """Print what one trial found, a line for each row, and what ended it early."""
    for finding in tried.findings:
        terminal.print(f"{finding.row:11} {tried.model:18} {finding_words(finding)}")
    if tried.error is not None:
        error = tried.error
        said = error.message if isinstance(error, KlpError) else str(error)
        terminal.print(f"{tried.measure.name:11} {tried.model:18} ended early: {said}")


def finding_words(finding: Finding) -> str:
    """Return a finding in one line."""
    parts = []
    if finding.value is not None:
        parts.append(amount(finding.value, ROW[finding.row].unit))
    parts += [text for text in (finding.never, finding.says) if text is not None]
    if finding.wrong is not None:
        parts.append(f"not as promised: {finding.wrong}")
    return "; ".join(parts)


def print_compared(
    terminal: Terminal, models: Sequence[Model], results: Sequence[ComparedResult]
) -> None:
    """Print the table, some models across at a time, then why something never ends or failed."""
    found = {(result.row, result.model): result for result in results}
    here = [model.name for model in models if any(name == model.name for _, name in found)]
    rows = [row for row in ROWS if any(key[0] == row.id for key in found)]
    for start in range(0, len(here), _ACROSS):
        names = here[start : start + _ACROSS]
        table = Table("", *names)
        for row in rows:
            cells = [found.get((row.id, name)) for name in names]
            table.add_row(row.title, *(_cell(result) for result in cells))
        if rows:
            terminal.print("", table)
    for line in remarks(results):
        terminal.prose(line, indent="  ")


def remarks(results: Sequence[ComparedResult]) -> list[str]:
    """Return a line for each transition that never ends, and for what failed."""
    lines = []
    for result in results:
        where = f"{ROW[result.row].title}, {result.model}" if result.row else result.model
        if result.never is not None and was_tried(result):
            lines.append(f"{where}: {result.never}")
        if result.detail is not None:
            lines.append(f"{where}: {result.outcome.value}: {result.detail}")
    return lines


def _cell(result: ComparedResult | None) -> Text:
    if result is None:
        return Text("")
    good = result.outcome is CheckOutcome.PASSED
    return Text(cell(result), style="" if good else "bold red")
