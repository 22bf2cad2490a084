# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness history: what became slower, what began to fail, and when."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from harness.cli.exits import guarded
from harness.cli.history_files import add_to_history, history_folder, read_history
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.options import ResultFiles
from harness.cli.pages import HtmlPage
from harness.errors import UsageError
from harness.inputs import read_file, shown, user_path
from harness.tools.history.page import history_page
from harness.tools.history.results import ChangeKind
from harness.tools.history.trend import paces, series_of, slow_runs, trends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.terminal import Terminal
    from harness.tools.history.results import TrendResult

_MOST_BYTES = 256 << 20
_STYLES = {
    ChangeKind.FAILS: "bold red",
    ChangeKind.UNSTEADY: "bold red",
    ChangeKind.SLOWER: "yellow",
    ChangeKind.GONE: "yellow",
}


@guarded
def history(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where the runs are kept.", show_default=False),
    ],
    add: Annotated[
        tuple[Path, ...],
        typer.Option(
            metavar="RESULTS.json",
            help="First add what a command wrote with --json: of verify, test, matrix... "
            "Repeatable.",
        ),
    ] = (),
    html: HtmlPage = None,
    *,
    files: ResultFiles,
) -> int:
    """Show what became slower, what began to fail, and when, from the files of earlier runs.

    The exit code is 0 whatever the runs have found: it is no verdict.
    """
    with Invocation("history", files) as invocation:
        check_writable(html)
        terminal = invocation.terminal
        place = history_folder(folder)
        for path in add:
            _add(terminal, place, path)
        recordings, damaged = read_history(place)
        series = series_of(recordings)
        results = trends(series)
        slow = slow_runs(series, paces(series))
        invocation.results += results
        invocation.more |= {
            "recorded": len({each.run.id for each in recordings}),
            "damaged": tuple(damaged),
            "slow_runs": slow,
        }
        if html is not None:
            write_file(html, history_page(series, results, damaged=damaged, slow_runs=slow))
        times = sorted(each.run.at for each in recordings)
        terminal.print(f"{len(recordings)} runs from {times[0]} to {times[-1]}")
        for at in slow:
            terminal.print(f"everything took longer in the run of {at}: the machine was busy")
        _print(terminal, results)
        for line in damaged:
            terminal.note(f"damaged, and left out: {shown(line)}")
    return invocation.exit_code


def _add(terminal: Terminal, folder: Path, named: Path) -> None:
    path = user_path(named, "the results")
    content = read_file(path, "the results", at_most=_MOST_BYTES)
    try:
        report: Any = json.loads(content)
        at = _ended(report, path)
        added = add_to_history(folder, report, at=at)
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError) as error:
        raise UsageError(
            f"{shown(path)} has no results of klp-harness: {shown(error).splitlines()[0]}",
            hint="name a file that a command wrote with --json",
        ) from error
    terminal.print(f"added        {added.name}" if added else f"{path.name} is there already")


def _ended(report: Any, path: Path) -> str:
    """Return when a run ended: as its results say, else when the file was written."""
    times: list[str] = [each["at"] for each in report["results"] if isinstance(each.get("at"), str)]
    if times:
        return max(times)
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return written.isoformat(timespec="seconds")


def _print(terminal: Terminal, results: Sequence[TrendResult]) -> None:
    changed = [(result, change) for result in results for change in result.changes]
    for result, change in changed:
        part = f" {change.part}" if change.part else ""
        line = Text(f"{change.kind.value:8} ", style=_STYLES.get(change.kind, "green"))
        line.append(f"{result.id}{part}", style="bold")
        line.append(f"  since {change.since}")
        terminal.print(line)
        terminal.prose(f"         {change.detail}", indent="         ")
    terminal.print(f"{len(results)} results, {len(changed)} changes")
