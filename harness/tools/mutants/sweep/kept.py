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
from harness.tools.mutants.sweep.results import SweepResult
from harness.vm.guest.run_folder import writing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

_NOW, _LAST = "results.jsonl", "last.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    key: str
    result: SweepResult


class KeptResults:
    """A folder with the results of sweeps of one kernel. ``key`` is what they depend on.

    ``before`` has the outcomes of the last sweep that ended, by mutant, and ``noticed_by`` the
    tests that noticed.
    """

    def __init__(self, folder: Path, key: str) -> None:
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
        last = _read(self.folder / _LAST, None)
        self.before = {name: result.outcome for name, result in last.items()}
        self.noticed_by = {
            name: result.noticed.test for name, result in last.items() if result.noticed
        }
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def take_up(
        self, names: Collection[str], explained: Collection[str] = ()
    ) -> dict[str, SweepResult]:
        """Return the results of these mutants that a sweep which did not end has left.

        What the harness or the host failed is tried again, and a gap that has been ``explained``
        since is judged anew.
        """
        known = _read(self.folder / _NOW, self._key)
        return {
            name: result
            for name, result in known.items()
            if name in names
            and result.outcome is not CheckOutcome.ERROR
            and not (result.is_gap and name in explained)
        }

    def begin(self, names: Collection[str], kept: Mapping[str, SweepResult]) -> None:
        """Begin a sweep of these mutants, with these results of an interrupted one.

        What an interrupted sweep has left of other mutants stays as it is.
        """
        self._names = frozenset(names)
        self._write(_NOW, [*self._others(), *kept.values()])

    def add(self, result: SweepResult) -> None:
        """Keep a result, whatever becomes of this process."""
        with writing(self.folder), (self.folder / _NOW).open("a", encoding="utf-8") as file:
            file.write(self._line(result))
            file.flush()
            os.fsync(file.fileno())

    def with_before(self, result: SweepResult) -> SweepResult:
        """Return a result with the outcome that it had in the last sweep."""
        return result.model_copy(update={"before": self.before.get(result.id)})

    def finish(self) -> None:
        """Record that the sweep has ended: its outcomes are the last ones of these mutants."""
        now = _read(self.folder / _NOW, self._key)
        known = _read(self.folder / _LAST, None) | {
            name: result for name, result in now.items() if name in self._names
        }
        self._write(_LAST, known.values())
        self._write(_NOW, self._others())

    def _others(self) -> list[SweepResult]:
        known = _read(self.folder / _NOW, self._key)
        return [result for name, result in known.items() if name not in self._names]

    def _write(self, name: str, results: Iterable[SweepResult]) -> None:
        aside = self.folder / f"{name}.new"
        with writing(self.folder):
            aside.write_text("".join(self._line(each) for each in results), encoding="utf-8")
            aside.replace(self.folder / name)

    def _line(self, result: SweepResult) -> str:
        return _Line(key=self._key, result=result).model_dump_json() + "\n"


def _read(path: Path, key: str | None) -> dict[str, SweepResult]:
    """Return the results in a file, by mutant; a line that was cut off is left out."""
    found: dict[str, SweepResult] = {}
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
        if key is None or line.key == key:
            found[line.result.id] = line.result
    return found
