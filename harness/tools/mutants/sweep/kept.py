# SPDX-License-Identifier: GPL-2.0-only
"""The results of a sweep as they come, a line each: an interrupted one is taken up again.

Those of the last sweep that ended stay beside them, so that the next one can say what changed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UsageError
from harness.inputs import shown
from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep.results import BY_OBJECT, SweepResult
from harness.vm.guest.run_folder import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

_NOW, _LAST = "results.jsonl", "last.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    key: str
    result: SweepResult


class KeptResults:
    """A folder with the results of sweeps of one kernel.

    ``key`` gives what a result depends on: with another one it says nothing of this sweep.
    ``before`` has the outcomes of the last sweep that ended, by mutant; ``noticed_by`` the tests
    that noticed a mutant when it last ran.
    """

    def __init__(self, folder: Path, key: Callable[[SweepResult], str]) -> None:
        self.folder = folder
        self.before: dict[str, CheckOutcome] = {}
        self.noticed_by: dict[str, str] = {}
        self._key = key
        self._names: frozenset[str] = frozenset()
        self._lock = FileLock(folder / "lock", blocking=False)

    def __enter__(self) -> Self:
        """Raises UsageError when another sweep uses the folder, and when it cannot be made."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UsageError(
                f"another sweep is using {shown(self.folder)}", hint="wait for its end"
            ) from error
        last = _read(self.folder / _LAST)
        self.before = {name: line.result.outcome for name, line in last.items()}
        self.noticed_by = {
            name: line.result.noticed.test
            for name, line in (last | _read(self.folder / _NOW)).items()
            if line.result.noticed
        }
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def take_up(
        self, names: Collection[str], explained: Collection[str] = ()
    ) -> dict[str, SweepResult]:
        """Return the results of these mutants that a sweep which did not end has left.

        What the harness or the host failed is tried again. What rests on an explanation is judged
        anew, and so is a gap that has been ``explained`` since.
        """
        return {
            name: line.result
            for name, line in _read(self.folder / _NOW).items()
            if name in names
            and self._is_of_now(line)
            and line.result.outcome is not CheckOutcome.ERROR
            and not (line.result.is_gap and name in explained)
            and not _is_explained(line.result)
        }

    def begin(self, names: Collection[str], kept: Mapping[str, SweepResult]) -> None:
        """Begin a sweep of these mutants, with these results of an interrupted one.

        What an interrupted sweep has left of other mutants stays as it is, and so does what depends
        on something that has changed: it says which test noticed.
        """
        self._names = frozenset(names)
        known = _read(self.folder / _NOW)
        self._write(
            _NOW,
            (
                line
                for name, line in known.items()
                if name not in self._names or name in kept or not self._is_of_now(line)
            ),
        )

    def add(self, result: SweepResult) -> None:
        """Keep a result, whatever becomes of this process."""
        with writing(self.folder), (self.folder / _NOW).open("a", encoding="utf-8") as file:
            file.write(_text(_Line(key=self._key(result), result=result)))
            file.flush()
            os.fsync(file.fileno())

    def with_before(self, result: SweepResult) -> SweepResult:
        """Return a result with the outcome that it had in the last sweep."""
        return result.model_copy(update={"before": self.before.get(result.id)})

    def finish(self) -> None:
        """Record that the sweep has ended: its outcomes are the last ones of these mutants."""
        now = _read(self.folder / _NOW)
        ended = {
            name: line
            for name, line in now.items()
            if name in self._names and self._is_of_now(line)
        }
        self._write(_LAST, (_read(self.folder / _LAST) | ended).values())
        self._write(_NOW, (line for name, line in now.items() if name not in self._names))

    def _is_of_now(self, line: _Line) -> bool:
        return line.key == self._key(line.result)

    def _write(self, name: str, lines: Iterable[_Line]) -> None:
        aside = self.folder / f"{name}.new"
        with writing(self.folder):
            aside.write_text("".join(_text(each) for each in lines), encoding="utf-8")
            aside.replace(self.folder / name)


def _is_explained(result: SweepResult) -> bool:
    is_proved = result.outcome is CheckOutcome.EQUIVALENT and result.detail != BY_OBJECT
    return is_proved or result.explained


def _text(line: _Line) -> str:
    return line.model_dump_json() + "\n"


def _read(path: Path) -> dict[str, _Line]:
    """Return the lines of a file, by mutant; one that was cut off is left out."""
    found: dict[str, _Line] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return found
    except OSError as error:
        raise UsageError(f"{shown(path)} cannot be read: {error}") from error
    for text in lines:
        try:
            line = _Line.model_validate_json(text)
        except ValidationError:
            continue
        found[line.result.id] = line
    return found
