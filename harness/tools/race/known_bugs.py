# SPDX-License-Identifier: GPL-2.0-only
"""Which hits of the fuzzer are bugs that are known: their signatures are data, known_bugs.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from harness.errors import HarnessError, UsageError
from harness.inputs import MIB, read_file, shown, user_path
from harness.tools.race.catalogue import CATALOGUE, known_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.tools.race.results import RaceHit

OURS = Path(__file__).with_name("known_bugs.toml")
_STEPS = "steps: "


class KnownBug(BaseModel):
    """How a known bug looks when the fuzzer hits it.

    ``bug`` names it: a reproducer, or anything else in a file of the user's. ``steps`` and
    ``shows`` are regular expressions: the first for the steps, the second for the message or a
    line below it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bug: str
    steps: str
    shows: str

    @field_validator("steps", "shows")
    @classmethod
    def _is_pattern(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression: {error}") from error
        return text

    def matches(self, hit: RaceHit) -> bool:
        """Return whether a hit looks like it."""
        steps = next((line for line in hit.details if line.startswith(_STEPS)), "")
        lines = (hit.message, *(line for line in hit.details if line is not steps))
        return bool(re.search(self.steps, steps.removeprefix(_STEPS))) and any(
            re.search(self.shows, line) for line in lines
        )


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    known: tuple[KnownBug, ...]


def read_known(files: Iterable[Path]) -> tuple[KnownBug, ...]:
    """Return the signatures of the user's files; raises UsageError for what is no such file."""
    return tuple(known for file in files for known in _read(file))


def load_known(given: Sequence[KnownBug], version: str) -> tuple[KnownBug, ...]:
    """Return the given signatures, and then those of ours that this kernel may show.

    ``version`` is a kernel release.
    """
    expected = {race.name for race in CATALOGUE if known_of(race, version) is not None}
    try:
        ours = _File.model_validate(tomllib.loads(OURS.read_text(encoding="utf-8"))).known
    except (OSError, ValueError) as error:
        raise HarnessError(f"{OURS.name} cannot be read: {error}") from error
    return (*given, *(known for known in ours if known.bug in expected))


def bug_of(hit: RaceHit, known: Iterable[KnownBug]) -> str | None:
    """Return the name of the bug that a hit looks like; None: it is new."""
    return next((each.bug for each in known if each.matches(hit)), None)


def _read(file: Path) -> tuple[KnownBug, ...]:
    path = user_path(file, "the file of known bugs")
    content = read_file(path, "the file of known bugs", at_most=MIB)
    try:
        return _File.model_validate(tomllib.loads(content.decode())).known
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = f"{where}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise UsageError(
        f"{shown(path)} has no signatures of bugs: {shown(why)}",
        hint="[[known]] with bug, steps and shows; harness/tools/race/known_bugs.toml has examples",
    )
