# SPDX-License-Identifier: GPL-2.0-only
"""The folder of a matrix: each cell's result in a file of its own, written when the cell ends.

So an interrupted job is taken up again. A result is used again only for the same cell: the same
files, by content, with the same settings.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from harness import __version__
from harness.cli.invocation import write_file
from harness.errors import UsageError
from harness.inputs import Kind, kind_of, shown, user_path
from harness.report.base import CheckOutcome
from harness.tools.verify.results import CellResult
from harness.vm.guest.run_folder import writing
from harness.vm.kernel.module import source_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.tools.verify.matrix.plan import Cell, Column, MatrixPlan

STATE = "matrix.json"
CELLS = "cells"
_WHAT = "the folder of results"
_JUDGED = (CheckOutcome.PASSED, CheckOutcome.WARNED, CheckOutcome.FAILED)
_GOOD = (CheckOutcome.PASSED, CheckOutcome.WARNED)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _State(_Model):
    """When the job began, and whether it has ended."""

    format: Literal[1] = 1
    started: str
    finished: bool = False


class _KeptCell(_Model):
    format: Literal[1] = 1
    key: str
    result: CellResult


class KeptCells:
    """The folder while a job uses it. ``kept`` are the results that need not be made again."""

    def __init__(self, folder: Path, plan: MatrixPlan) -> None:
        self.folder = folder
        self.kept: dict[str, CellResult] = {}
        self.is_taken_up = False
        self._keys = {
            cell.id: cell_key(cell, column)
            for column in plan.columns
            for cell in plan.cells
            if cell.column == column.name
        }
        self._files = {cell.id: f"{cell.file}.json" for cell in plan.cells}
        self._lock = FileLock(folder / "lock", blocking=False)
        self._started = ""

    def open(self, *, started: str, rerun_failed: bool, anew: bool) -> None:
        """Make the folder, or find what is in it.

        Without ``anew``, the verdicts of a job that has not ended are kept. With ``rerun_failed``,
        of whatever job is there all that is kept passed or warned. Raises UsageError for a folder
        of something else, one that another process uses, and one without results to rerun.
        """
        path = self.folder / STATE
        try:
            empty = not self.folder.exists() or not any(self.folder.iterdir())
        except OSError as error:
            raise UsageError(f"{_WHAT} {shown(self.folder)} cannot be used: {error}") from error
        if not empty and not path.is_file():
            raise UsageError(
                f"{shown(self.folder)} is not empty, and holds no results of verify",
                hint="name an empty or new folder with --results",
            )
        with writing(self.folder):
            (self.folder / CELLS).mkdir(parents=True, exist_ok=True)
        self._acquire()
        before = self._state() if not empty else None
        if rerun_failed and before is None:
            raise UsageError(
                f"{shown(self.folder)} has no results: nothing there has failed",
                hint="without --rerun-failed all cells are verified",
            )
        known = dict(self._read())
        if rerun_failed:
            self.kept = {each: known[each] for each in known if known[each].outcome in _GOOD}
        elif before is not None and not before.finished and not anew:
            self.kept = {each: known[each] for each in known if known[each].outcome in _JUDGED}
            self.is_taken_up = bool(self.kept)
        resumed = before is not None and bool(self.kept)
        self._started = before.started if before is not None and resumed else started
        for file in (self.folder / CELLS).iterdir():
            if file.name not in {self._files[each] for each in self.kept}:
                file.unlink()
        self._write_state(finished=False)

    def close(self, *, finished: bool) -> None:
        """Note how the job has ended, and leave the folder to others."""
        self._write_state(finished=finished)
        self._lock.release()

    def missing(self, cells: Sequence[Cell], digest: str | None) -> list[Cell]:
        """Return those of the cells that have no kept result.

        ``digest`` is their kernel's: a result of another one is forgotten. None: it cannot be had.
        """
        for cell in cells:
            known = self.kept.get(cell.id)
            if digest and known and known.kernel and known.kernel.digest != digest:
                del self.kept[cell.id]
        return [cell for cell in cells if cell.id not in self.kept]

    def keep(self, result: CellResult) -> None:
        """Write the result of a cell, whole or not at all. Raises as `write_file` does."""
        made = _KeptCell(key=self._keys[result.id], result=result)
        write_file(
            self.folder / CELLS / self._files[result.id], made.model_dump_json(indent=1) + "\n"
        )

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UsageError(
                f"another verify is using {shown(self.folder)}", hint="wait for its end"
            ) from error

    def _state(self) -> _State | None:
        try:
            return _State.model_validate_json((self.folder / STATE).read_bytes())
        except (OSError, ValidationError) as error:
            raise UsageError(
                f"{shown(self.folder / STATE)} cannot be read: it is damaged, or of another "
                "version",
                hint="name another folder with --results",
            ) from error

    def _write_state(self, *, finished: bool) -> None:
        state = _State(started=self._started, finished=finished)
        write_file(self.folder / STATE, state.model_dump_json(indent=1) + "\n")

    def _read(self) -> Iterator[tuple[str, CellResult]]:
        """Yield the results of the plan's cells that are there; of other cells, nothing."""
        for name, file in self._files.items():
            try:
                found = _KeptCell.model_validate_json((self.folder / CELLS / file).read_bytes())
            except (OSError, ValidationError):
                continue
            if found.result.id == name and found.key == self._keys[name]:
                yield name, found.result


def results_folder(named: Path) -> Path:
    """Return the folder that a user names for results; raises UsageError for a file."""
    path = user_path(named, _WHAT)
    if kind_of(path, _WHAT) is Kind.FILE:
        raise UsageError(f"{_WHAT} {shown(path)} is a file", hint="name a folder")
    return path.absolute()


def cell_key(cell: Cell, column: Column) -> str:
    """Return a digest of all that a cell is made of, but for the kernel's sources.

    Raises UsageError for a file that cannot be read.
    """
    parts = {
        "harness": __version__,
        "cell": asdict(cell),
        "kernel": column.options.as_arguments(),
        "files": _digests(cell),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _digests(cell: Cell) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for word in filter(None, (*cell.named, cell.source, cell.check)):
        path = Path(word)
        if path.is_dir():
            found |= {f"{word}/{name}": _digest(path / name) for name in source_files(path)}
        elif path.is_file():
            found[word] = _digest(path)
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
