# SPDX-License-Identifier: GPL-2.0-only
"""Lines that a suite is known not to run, and branches that go one way, with the reasons."""

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
    """A line, found by its function, its text, and the line before it that is not empty.

    ``series`` are the kernels that the reason is for; none: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: tuple[str, ...] = ()
    file: str
    function: str
    after: str
    text: str
    kind: Why
    why: str


class OneWay(BaseModel):
    """A line whose branches go one way, found by the function and its text.

    The compiler may have made several branches of it, at each place where it is inlined, and which
    side of one is the jump is the compiler's choice: the reason is for all of them. ``series`` are
    the kernels that it is for; none: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: tuple[str, ...] = ()
    file: str
    function: str
    text: str
    kind: Why
    why: str


class Listed(BaseModel):
    """The list of a file: lines, and branches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: tuple[Unreached, ...] = ()
    branch: tuple[OneWay, ...] = ()

    def of(self, series: str) -> Listed:
        """Return what is listed for a kernel of that series, such as 6.1."""
        return Listed(
            line=tuple(each for each in self.line if not each.series or series in each.series),
            branch=tuple(each for each in self.branch if not each.series or series in each.series),
        )


class Compared(NamedTuple):
    """``unexplained`` did not run and are not listed; ``reached`` are listed and ran.

    ``unknown`` are listed and not in the sources. Places are file and line.
    """

    unexplained: tuple[tuple[str, int], ...]
    reached: tuple[tuple[str, int], ...]
    unknown: tuple[Unreached, ...]


class Branches(NamedTuple):
    """The sides of branches: how many there are, were taken, lead into a WARN, cannot be taken.

    ``no_test`` are those that a test could take. ``unexplained`` are the lines whose branches went
    one way, or did not run, and are not listed; ``reached`` are listed, and all sides were taken;
    ``unknown`` are listed, and not in the sources.
    """

    known: int
    taken: int
    warns: int
    cannot: int
    no_test: int
    unexplained: tuple[tuple[str, int], ...]
    reached: tuple[OneWay, ...]
    unknown: tuple[OneWay, ...]


def read_unreached(path: Path) -> Listed:
    """Return the list in a file. Raises UsageError when it is none."""
    try:
        text = read_text_file(path, "the list of lines")
        return Listed.model_validate(tomllib.loads(text))
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


def compare_branches(coverage: Coverage, listed: Sequence[OneWay]) -> Branches:
    """Compare a list with the branches of a run of all tests. A trap of a WARN needs no reason."""
    known = taken = warns = 0
    missed: dict[tuple[str, str, str], int] = {}
    lines: dict[tuple[str, str, str], set[int]] = {}
    for file in coverage.files:
        for branch in file.branches:
            text = file.text[branch.line - 1].strip() if branch.line <= len(file.text) else ""
            key = (file.name, branch.function, text)
            lines.setdefault(key, set()).add(branch.line)
            if branch.passes is None or branch.jumps is None:
                continue
            sides = (branch.passes > 0) + (branch.jumps > 0)
            known += 2
            taken += sides
            if branch.warns:
                warns += 2 - sides
            else:
                missed[key] = missed.get(key, 0) + 2 - sides
    reasons = {(each.file, each.function, each.text): each for each in listed}

    def count(kind: Why) -> int:
        return sum(
            number for key, number in missed.items() if key in reasons and reasons[key].kind is kind
        )

    return Branches(
        known=known,
        taken=taken,
        warns=warns,
        cannot=count(Why.CANNOT),
        no_test=count(Why.NO_TEST),
        unexplained=tuple(
            sorted(
                (key[0], line)
                for key, number in missed.items()
                if number and key not in reasons
                for line in lines[key]
            )
        ),
        reached=tuple(each for key, each in reasons.items() if missed.get(key) == 0),
        unknown=tuple(each for key, each in reasons.items() if key not in lines),
    )
