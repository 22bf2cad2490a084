# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees on the terminal: progress, errors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from harness.errors import HarnessError, KernelSplat
from harness.report.terminal import LineProgress, Terminal

if TYPE_CHECKING:
    import pytest


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def streams(*, results_to_stderr: bool = False) -> tuple[Terminal, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Terminal(results_to_stderr=results_to_stderr, stdout=out, stderr=err), out, err


def test_results_and_notes_go_different_ways() -> None:
    """Standard output has the result alone, so that it can be piped."""
    terminal, out, err = streams()
    terminal.print("the result")
    terminal.note("a note")
    assert (out.getvalue(), err.getvalue()) == ("the result\n", "a note\n")


def test_nothing_human_on_stdout_beside_json() -> None:
    """With --json - everything human goes to standard error."""
    terminal, out, err = streams(results_to_stderr=True)
    terminal.print("the result")
    assert (out.getvalue(), err.getvalue()) == ("", "the result\n")


def test_a_table_in_a_file_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no terminal has an edge a row stays one line for grep; COLUMNS is followed."""
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("what", box=None, padding=0)
    table.add_row("word " * 25)
    terminal, out, _ = streams()
    terminal.print(table)
    assert "word " * 25 in out.getvalue()
    monkeypatch.setenv("COLUMNS", "40")
    terminal, out, _ = streams()
    terminal.print(table)
    assert max(map(len, out.getvalue().splitlines())) <= 40


def test_error_is_sentences_with_hint_details_and_logs() -> None:
    """An error tells what happened, what to do, the lines worth reading, and where the logs lie."""
    terminal, out, err = streams()
    terminal.error(
        KernelSplat(
            "the kernel complained: WARNING",
            hint="read it",
            details=("line [one]", "esc \x1b[31m red"),
            artefacts=Path("/runs/1"),
        )
    )
    assert out.getvalue() == ""
    assert err.getvalue().splitlines() == [
        "error: the kernel complained: WARNING",
        "hint: read it",
        "    line [one]",
        "    esc \N{REPLACEMENT CHARACTER}[31m red",
        "logs: /runs/1",
    ]


def test_long_lines_are_not_broken() -> None:
    """A path in an error can be copied, however long it is."""
    terminal, _, err = streams()
    path = "/" + "a" * 200
    terminal.error(HarnessError(f"cannot read {path}"))
    assert err.getvalue() == f"error: cannot read {path}\n"


def test_lines_progress_speaks_of_stages_and_seldom_of_counts() -> None:
    """A log gets each stage, at most one count in ten seconds, and the last count of a stage."""
    clock, said = Clock(), list[str]()
    progress = LineProgress(said.append, clock=clock)
    progress.stage("building")
    for done in range(1, 25):
        clock.now_s += 1
        progress.count(done, 24, "objects")
    progress.stage("linking")
    clock.now_s += 61
    progress.count(1, None, "files")
    progress.finish()
    assert said == [
        "[00:00] building",
        "[00:10] 10 of 24 objects",
        "[00:20] 20 of 24 objects",
        "[00:24] 24 of 24 objects",
        "[00:24] linking",
        "[01:25] 1 files",
    ]


def test_progress_without_a_terminal_is_plain_lines() -> None:
    """No bar and no escape sequence where nobody looks."""
    terminal, out, err = streams()
    with terminal.progress() as progress:
        progress.stage("unpacking")
        progress.count(3, 4, "files")
    assert err.getvalue() == "[00:00] unpacking\n[00:00] 3 of 4 files\n"
    assert out.getvalue() == ""
