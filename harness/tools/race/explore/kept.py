# SPDX-License-Identifier: GPL-2.0-only
"""Trials that showed nothing, in a file: a campaign that was interrupted goes on where it was.

A line of JSON for each. What showed something is not kept: it is tried again, with its calls.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError
from harness.inputs import MIB, read_file, shown, user_path

if TYPE_CHECKING:
    from pathlib import Path

_MOST_MIB = 256


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
        self._points: dict[tuple[str, bool], tuple[str, ...]] = {}
        self._trials: dict[tuple[str, str], tuple[bool, bool]] = {}
        if self._path.exists():
            self._read()
        elif not self._path.absolute().parent.is_dir():
            raise UsageError(f"the folder for {shown(str(file))} does not exist")

    def points(self, pair: str, *, dense: bool) -> tuple[str, ...] | None:
        """Return the points that A passes, if that is known."""
        return self._points.get((pair, dense))

    def trial(self, pair: str, hold: str) -> tuple[bool, bool] | None:
        """Return of a trial that showed nothing whether A was held, and whether B was blocked."""
        return self._trials.get((pair, hold))

    def add_points(self, pair: str, points: tuple[str, ...], *, dense: bool) -> None:
        """Keep the points that A passes."""
        self._add({"pair": pair, "dense": dense, "points": points})

    def add_trial(self, pair: str, hold: str, *, reached: bool, blocked: bool) -> None:
        """Keep a trial that showed nothing."""
        facts = {"reached": reached, "blocked": blocked, "oracle": self._oracle}
        self._add({"pair": pair, "hold": hold, **facts})

    def _add(self, line: dict[str, object]) -> None:
        text = json.dumps({"kernel": self._digest, **line}) + "\n"
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
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"line {number} of {shown(str(self._path))} is no trial of `race explore`",
                    hint="give --resume a file of its own",
                ) from error

    def _take(self, line: dict[str, Any]) -> None:
        pair = str(line["pair"])
        if line["kernel"] != self._digest:
            return
        if "points" in line:
            self._points[pair, bool(line["dense"])] = tuple(map(str, line["points"]))
        elif line.get("oracle", False) or not self._oracle:
            facts = bool(line["reached"]), bool(line["blocked"])
            self._trials[pair, str(line["hold"])] = facts
