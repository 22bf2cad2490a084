# SPDX-License-Identifier: GPL-2.0-only
"""Prints the verdict on a livepatch: a table of its checks, and each finding in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.report.base import CheckOutcome
from harness.report.terminal import printable
from harness.tools.verify.results import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.terminal import Terminal
    from harness.tools.verify.results import VerdictFacts, VerifyResult

_LINES = 16
_STYLES = {
    CheckOutcome.PASSED: "green",
    CheckOutcome.WARNED: "yellow",
    CheckOutcome.FAILED: "bold red",
    CheckOutcome.NOT_RUN: "dim",
}


def print_verdict(terminal: Terminal, facts: VerdictFacts, results: Sequence[VerifyResult]) -> None:
    """Print all checks of one module, then what is wrong and what to do about it."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("what was found", overflow="fold")
    for result in results:
        table.add_row(
            result.id,
            Text(result.outcome.value, style=_STYLES.get(result.outcome, "")),
            f"{result.seconds:.1f}" if result.seconds else "",
            Text(printable(result.detail)),
        )
    terminal.print("", table)
    for result in results:
        if result.outcome in FINDINGS:
            _print_finding(terminal, result)
    count = {outcome: sum(r.outcome is outcome for r in results) for outcome in _STYLES}
    counts = ", ".join(f"{number} {outcome.value}" for outcome, number in count.items() if number)
    terminal.print("")
    terminal.prose(
        f"{facts.module}: {facts.outcome} ({counts}; {facts.seconds:.0f} s)", indent="  "
    )


def _print_finding(terminal: Terminal, result: VerifyResult) -> None:
    terminal.print("")
    terminal.prose(
        f"{result.id} {result.outcome.value} [{result.code}]: {printable(result.detail)}",
        indent="  ",
    )
    for line in result.lines[:_LINES]:
        terminal.print(f"    {printable(line)}")
    if len(result.lines) > _LINES:
        terminal.print(f"    ({len(result.lines) - _LINES} more lines)")
    if result.advice:
        terminal.prose(f"  advice: {result.advice}", indent="    ")
    for path in result.evidence:
        terminal.print(f"  logs: {path}")
