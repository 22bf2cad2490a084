# SPDX-License-Identifier: GPL-2.0-only
"""What is known of mutants that no test notices: a proof, or what it would take to notice them."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UsageError
from harness.inputs import MIB, read_file, shown
from harness.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.tools.mutants.sweep.candidates import Candidate

NAME = "explained.toml"


class Explained(BaseModel):
    """A mutant by its code, so that it is found in every kernel that has this code.

    ``code`` is the first line of the mutant's code without the indentation, ``after`` the line
    before it, where a function has the same code twice; of several on a line ``new`` selects one,
    or ``nth``, from 1 on, where they are alike.
    ``lines``: the function has the code on so many lines, and it is known of all of them.
    ``kind``: ``equivalent`` is a proof that no test can notice it;
    ``needs`` says what a test would need that guests do not have. ``series`` are the kernels of
    which that is said, such as 6.1; none: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    function: str
    operator: str
    code: str
    after: str | None = None
    new: str | None = None
    nth: int | None = Field(default=None, ge=1)
    lines: int = Field(default=1, ge=1)
    series: tuple[str, ...] = ()
    kind: Literal["equivalent", "needs"]
    why: str


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mutant: tuple[Explained, ...] = Field(default=())


def read_explained(path: Path) -> tuple[Explained, ...]:
    """Return what a file says of mutants; raises UsageError when it cannot be read."""
    try:
        text = read_file(path, "the list of explained mutants", at_most=MIB).decode()
        return _Table.model_validate(tomllib.loads(text)).mutant
    except (ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{shown(path)} is no list of explained mutants: {first}") from error


def match(
    mutants: Iterable[Candidate],
    sources: Mapping[str, bytes],
    known: Iterable[Explained],
    *,
    series: str | None = None,
) -> dict[str, Explained]:
    """Return what is known of each of the mutants, by its name, on a kernel of this series.

    ``mutants`` are all of the sources: an entry that fits more lines than it has to is left out.
    """
    by_place: dict[tuple[str, str, str], list[Candidate]] = {}
    for mutant in mutants:
        place = mutant.file, mutant.function, mutant.operator.value
        by_place.setdefault(place, []).append(mutant)
    found: dict[str, Explained] = {}
    for each in known:
        if each.series and series not in each.series:
            continue
        those = by_place.get((each.file, each.function, each.operator), ())
        fitting = [mutant for mutant in those if _is_of(each, mutant, sources[mutant.file])]
        lines = sorted({mutant.line for mutant in fitting})
        if len(lines) > each.lines:
            LOGGER.warning(
                "%s() in %s has `%s` on the lines %s, so what explains a mutant of one of them is "
                "used for none: name the line before it with `after`",
                *(each.function, each.file, each.code, ", ".join(map(str, lines))),
            )
            continue
        for line in lines:
            alike = [mutant.name for mutant in fitting if mutant.line == line]
            found |= dict.fromkeys(alike if each.nth is None else alike[each.nth - 1 :][:1], each)
    return found


def _is_of(known: Explained, mutant: Candidate, source: bytes) -> bool:
    lines = [line.decode(errors="replace").strip() for line in source.splitlines()]
    return (
        lines[mutant.line - 1] == known.code
        and known.after in (None, lines[mutant.line - 2])
        and known.new in (None, mutant.new)
    )
