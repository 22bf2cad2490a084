# SPDX-License-Identifier: GPL-2.0-only
"""On which line of a TOML file a key is. Pure.

tomllib gives values without their places. This reads a file that tomllib has read: headers and keys
are looked for at the beginnings of lines, and the values between them are skipped.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Place = tuple[str | int, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_PARTS = re.compile(_PART)
# What a value is made of, so that its end is found: strings first, as they may hold the others.
_TOKENS = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|' + r"'''.*?'''|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|"
    r"#[^\n]*|[\[\]{}]|\n",
    re.DOTALL,
)


def key_lines(text: str) -> Mapping[Place, int]:
    """Return the line, from 1, of each table and key by its place: ``("patch", 2, "check")``.

    Keys within an inline table have the line of the table's own key.
    """
    lines: dict[Place, int] = {}
    for place, line in _places(text):
        lines.setdefault(place, line)
    return lines


def line_of(lines: Mapping[Place, int], place: Place) -> int | None:
    """Return the line of a place, or of the nearest one around it that is known."""
    while place:
        if place in lines:
            return lines[place]
        place = place[:-1]
    return None


def _places(text: str) -> Iterator[tuple[Place, int]]:
    table: Place = ()
    counts: Counter[Place] = Counter()
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text.count("\n", 0, position) + 1
        header = _HEADER.match(text, position, end)
        key = _KEY.match(text, position, end)
        if header is not None:
            table = _indexed(_split(header[2]), counts)
            if header[1] == "[[":
                table = (*table, counts[table])
                counts[table[:-1]] += 1
            yield table, line
        elif key is not None:
            place = (*table, *_split(key[1]))
            yield from ((place[:size], line) for size in range(len(table) + 1, len(place) + 1))
            end = _end_of_value(text, key.end())
        position = end + 1


def _indexed(names: Place, counts: Mapping[Place, int]) -> Place:
    """Return a header's place: a name that is an array of tables stands for its last one."""
    place: Place = ()
    for number, name in enumerate(names):
        place = (*place, name)
        if number + 1 < len(names) and counts.get(place):
            place = (*place, counts[place] - 1)
    return place


def _split(dotted: str) -> Place:
    return tuple(part.strip("\"'") for part in _PARTS.findall(dotted))


def _end_of_value(text: str, start: int) -> int:
    """Return where the line ends on which a value ends."""
    depth = 0
    for token in _TOKENS.finditer(text, start):
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case "\n" if depth <= 0:
                return token.start()
            case _:
                pass
    return len(text)
