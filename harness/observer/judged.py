# SPDX-License-Identifier: GPL-2.0-only
"""What the oracle has judged in the guests of a run: kept beside what they have left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from pathlib import Path

    from harness.observer.versions import Verdict

_SUFFIX = ".verdict"


class Judged(BaseModel):
    """What the oracle has judged: calls of functions in modules and of those that samples replace.

    ``events`` were read for that, and ``lost`` ones were not, since there was no room.
    """

    guests: int
    calls: int
    transitions: int
    events: int
    violations: int
    lost: int


def keep_verdict(observed: Path, verdict: Verdict, *, lost: int) -> None:
    """Keep what the oracle found in a guest, by the guest's shared file; raises OSError."""
    judged = Judged(
        guests=1,
        calls=sum(verdict.entries.values()) + verdict.repeated,
        transitions=verdict.transitions,
        events=verdict.events,
        violations=sum(verdict.kinds.values()),
        lost=lost,
    )
    observed.with_suffix(_SUFFIX).write_text(judged.model_dump_json())


def all_judged(folder: Path) -> Judged:
    """Return the sum of what is kept below a folder."""
    found = [
        Judged.model_validate_json(path.read_bytes())
        for path in sorted(folder.glob(f"*/*{_SUFFIX}"))
    ]
    names = Judged.model_fields
    return Judged(**{name: sum(getattr(each, name) for each in found) for name in names})
