# SPDX-License-Identifier: GPL-2.0-only
"""The folder of a history: each run adds a file of its own, and nothing there is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.cli.invocation import write_file
from harness.errors import UsageError
from harness.inputs import Kind, kind_of, read_file, shown, user_path
from harness.report.history import SUFFIX, file_name, from_lines, recorded, to_lines
from harness.vm.guest.run_folder import writing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.report.history import RecordedRun

_WHAT = "the history"


def history_folder(named: Path) -> Path:
    """Return the folder that a user names for a history; raises UsageError for a file."""
    path = user_path(named, _WHAT)
    if kind_of(path, _WHAT) is Kind.FILE:
        raise UsageError(f"{_WHAT} {shown(path)} is a file", hint="name a folder")
    return path


def add_to_history(folder: Path, report: Mapping[str, Any], *, at: str) -> Path | None:
    """Add a report, as JSON has it, that ended ``at``; None when the history has it already."""
    recording = recorded(report, at=at)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(recording.run)
    if path.exists():
        return None
    write_file(path, to_lines(recording))
    return path


def read_history(folder: Path) -> tuple[list[RecordedRun], list[str]]:
    """Return the runs of a folder and of those below it, and what is damaged there.

    Raises UsageError when it has no run at all.
    """
    runs: list[RecordedRun] = []
    damaged: list[str] = []
    paths = sorted(folder.rglob(f"*{SUFFIX}"), key=lambda path: path.name)
    for path in paths:
        name = str(path.relative_to(folder))
        try:
            text = read_file(path, "a file of the history").decode()
        except (UsageError, UnicodeDecodeError) as error:
            damaged.append(f"{name}:1: {error}")
            continue
        run, wrong = from_lines(text, name)
        damaged += wrong
        if run is not None:
            runs.append(run)
    if not runs:
        why = f"all {len(paths)} files of it are damaged" if paths else "it has no file"
        raise UsageError(
            f"there is no history in {shown(folder)}: {why}",
            hint="`klp-harness verify ... --history FOLDER` adds a run, and `klp-harness history "
            "FOLDER --add RESULTS.json` what a command wrote with --json",
            details=tuple(damaged[:5]),
        )
    return runs, damaged
