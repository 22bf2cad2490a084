# SPDX-License-Identifier: GPL-2.0-only
"""Trials that showed nothing, in a file: a campaign that was interrupted goes on where it was.

A line of JSON for each. What showed something is not kept: it is tried again, with its calls.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import HarnessError, UsageError
from harness.inputs import MIB, read_file, shown, user_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOST_MIB = 256


class KeptTrial(NamedTuple):
    """A trial that showed nothing: whether A was held, and whether B was blocked.

    ``pruned``: it was not made, since B would be blocked where it was in another one.
    """

    reached: bool
    blocked: bool
    pruned: bool = False


class KeptTrials:
    """What a file has of a kernel. Several threads may use it."""

    def __init__(self, file: Path, digest: str, *, oracle: bool = True) -> None:
        """``digest`` is the kernel's; with ``oracle``, trials count that were made with it.

        Raises UsageError for a file of something else.
        """
        self._path = user_path(file, "the file of earlier trials")
        self._digest = digest
        self._oracle = oracle
        self._lock = threading.Lock()
        self._points: dict[tuple[str, bool], tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._trials: dict[tuple[str, str], KeptTrial] = {}
        self._lines: dict[str, list[str]] = {}
        if self._path.exists():
            self._read()
        elif not self._path.absolute().parent.is_dir():
            raise UsageError(f"the folder for {shown(str(file))} does not exist")

    def points(self, pair: str, *, dense: bool) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Return the points that A passes, if that is known, and those that are left out."""
        return self._points.get((pair, dense))

    def trial(self, pair: str, hold: str) -> KeptTrial | None:
        """Return a trial that showed nothing, if it was made or left out."""
        return self._trials.get((pair, hold))

    def lines_of(self, pair: str) -> tuple[str, ...]:
        """Return what the file had of a pair and this kernel, for another machine."""
        return tuple(self._lines.get(pair, ()))

    def add_lines(self, lines: Sequence[str]) -> None:
        """Keep what another machine has added to such lines."""
        self._write("".join(f"{line}\n" for line in lines))

    def add_points(
        self, pair: str, points: tuple[str, ...], alike: tuple[str, ...], *, dense: bool
    ) -> None:
        """Keep the points that A passes, and those that are left out."""
        self._add({"pair": pair, "dense": dense, "points": points, "alike": alike})

    def add_trial(self, pair: str, hold: str, trial: KeptTrial) -> None:
        """Keep a trial that showed nothing."""
        self._add({"pair": pair, "hold": hold, **trial._asdict(), "oracle": self._oracle})

    def _add(self, line: dict[str, object]) -> None:
        self._write(json.dumps({"kernel": self._digest, **line}) + "\n")

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                raise HarnessError(f"{self._path} cannot be written: {error.strerror}") from error

    def _read(self) -> None:
        content = read_file(self._path, "the file of earlier trials", at_most=_MOST_MIB * MIB)
        lines = content.decode(errors="replace").split("\n")
        # The last line may be half of one, when the machine was switched off.
        for number, line in enumerate(lines[:-1], start=1):
            try:
                self._take(json.loads(line), line)
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"line {number} of {shown(str(self._path))} is no trial of `race explore`",
                    hint="give --resume a file of its own",
                ) from error

    def _take(self, line: dict[str, Any], text: str) -> None:
        pair = str(line["pair"])
        if line["kernel"] != self._digest:
            return
        self._lines.setdefault(pair, []).append(text)
        if "points" in line:
            points, alike = (tuple(map(str, line.get(name, ()))) for name in ("points", "alike"))
            self._points[pair, bool(line["dense"])] = points, alike
        elif line.get("oracle", False) or not self._oracle:
            reached, blocked = bool(line["reached"]), bool(line["blocked"])
            pruned = bool(line.get("pruned", False))
            self._trials[pair, str(line["hold"])] = KeptTrial(reached, blocked, pruned)
