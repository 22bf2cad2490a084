# SPDX-License-Identifier: GPL-2.0-only
"""The rules that a patch may break: those of known mutants that change code near it. Pure.

A patch of the user's own often names no rules. Neighbouring code serves the same rules, so the
tests of its neighbours are likely to notice the patch.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.behaviours.mutants import Mutant

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_NEIGHBOURS = 8

Place = tuple[str, int]


def rules_near(places: Iterable[Place], known: Iterable[Mutant]) -> tuple[str, ...]:
    """Return the ids of the rules that the nearest of the known mutants break, nearest first.

    ``places`` are the changed lines. Only mutants of the same file are near; when there are none,
    neither is any rule.
    """
    places = tuple(places)
    distances = ((_distance(places, other), other) for other in known if other.breaks)
    near = sorted(
        ((distance, other.name, other) for distance, other in distances if distance is not None),
    )
    rules = (rule for _, _, other in near[:_NEIGHBOURS] for rule in other.breaks)
    return tuple(dict.fromkeys(rules))


def changed_places(diff: str) -> Iterator[Place]:
    """Yield the file and line, before the patch, of each line that a unified diff changes."""
    file, line = "", 0
    for text in diff.splitlines():
        hunk = _HUNK.match(text)
        if hunk is not None:
            line = int(hunk[1])
        elif text.startswith("--- "):
            file, line = text.split()[1].partition("/")[2], 0
        elif line and text.startswith(("-", "+")):
            yield file, line
            line += text.startswith("-")
        elif line:
            line += 1


def _distance(places: tuple[Place, ...], other: Mutant) -> int | None:
    """Return how many lines lie between them, None when no file is the same."""
    return min(
        (
            abs(line - at)
            for file, line in places
            for name, at in _places(other.diff)
            if name == file
        ),
        default=None,
    )


@functools.cache
def _places(diff: str) -> tuple[Place, ...]:
    return tuple(changed_places(diff))
