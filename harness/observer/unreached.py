# SPDX-License-Identifier: GPL-2.0-only
"""Lines that a suite is known not to run, with the reasons, compared with the coverage of a run."""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UsageError
from harness.inputs import read_text_file, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.observer.coverage import Coverage, FileCoverage


# In kernel style, what begins in the first column and has a parenthesis is a function.
_DEFINED = re.compile(r"[A-Za-z_].*?\b(\w+)\(")


class Why(StrEnum):
    """Whether a test could reach the line."""

    CANNOT = "cannot"
    NO_TEST = "no-test"


class Unreached(BaseModel):
    """A line, found by its function, its text, and the line before it that is not empty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    function: str
    after: str
    text: str
    kind: Why
    why: str


class _List(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    line: tuple[Unreached, ...] = ()


class Compared(NamedTuple):
    """``unexplained`` did not run and are not listed; ``reached`` are listed and ran.

    ``unknown`` are listed and not in the sources. Places are file and line.
    """

    unexplained: tuple[tuple[str, int], ...]
    reached: tuple[tuple[str, int], ...]
    unknown: tuple[Unreached, ...]


def read_unreached(path: Path) -> tuple[Unreached, ...]:
    """Return the list in a file. Raises UsageError when it is none."""
    try:
        text = read_text_file(path, "the list of lines")
        return _List.model_validate(tomllib.loads(text)).line
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{shown(path)} is no list of lines: {shown(reason)}") from error


def compare(coverage: Coverage, listed: Sequence[Unreached]) -> Compared:
    """Compare a list with the coverage of a run of all tests."""
    counts = {(file.name, line.line): line.count for file in coverage.files for line in file.lines}
    explained: set[tuple[str, int]] = set()
    reached: set[tuple[str, int]] = set()
    unknown = []
    for each in listed:
        places = [
            (file.name, number)
            for file in coverage.files
            if file.name == each.file
            for number in _places(file, each)
            if (file.name, number) in counts
        ]
        explained.update(places)
        if all(counts[place] for place in places):
            reached.update(places)
        if not places:
            unknown.append(each)
    return Compared(
        unexplained=tuple(
            place for place, count in sorted(counts.items()) if not count and place not in explained
        ),
        reached=tuple(sorted(reached)),
        unknown=tuple(unknown),
    )


def _places(file: FileCoverage, each: Unreached) -> Iterator[int]:
    before = function = ""
    for number, text in enumerate(file.text, 1):
        stripped = text.strip()
        defined = _DEFINED.match(text)
        if defined is not None:
            function = defined[1]
        if (function, before, stripped) == (each.function, each.after, each.text):
            yield number
        before = stripped or before
