# SPDX-License-Identifier: GPL-2.0-only
"""The interleavings of reports as pictures: ``.ci/bug_pictures.py docs/bugs docs/images/bugs``.

A picture is drawn from the table below "What happens" of a report: a column for each actor, a row
for each moment. Cells with the same text below each other are one step that lasts; the last row is
where the bug shows.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HEADING = "## What happens"
_LEFT, _LANE, _GAP, _TOP, _LINE = 28, 320, 12, 34, 17
# Characters of 13 px that fit into a lane.
_FITS = 44


@dataclass(kw_only=True)
class Step:
    """What an actor does from one row on, for some rows."""

    lane: int
    first: int
    last: int
    lines: list[str]


def read_table(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the actors and the rows of a report's table; raises ValueError without one."""
    _, found, rest = text.partition(f"\n{_HEADING}\n")
    lines = rest.splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith("|")), None)
    if not found or begin is None:
        raise ValueError(f"no table below {_HEADING!r}")
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows[0], rows[2:]


def steps_of(rows: list[list[str]]) -> list[Step]:
    """Return the steps, those of one actor after those of another."""
    steps = []
    for lane in range(len(rows[0])):
        before: Step | None = None
        for number, row in enumerate(rows):
            lines = textwrap.wrap(row[lane], _FITS)
            if before is not None and lines == before.lines:
                before.last = number
                continue
            before = Step(lane=lane, first=number, last=number, lines=lines) if lines else None
            if before is not None:
                steps.append(before)
    return steps


def picture(text: str) -> str:
    """Return the picture of a report, as an SVG file."""
    title = next(line for line in text.splitlines() if line.startswith("# ")).removeprefix("# ")
    actors, rows = read_table(text)
    steps = steps_of(rows)
    tall = [
        max((len(step.lines) for step in steps if step.first == number), default=1)
        for number in range(len(rows))
    ]
    tops = [_TOP]
    for count in tall:
        tops.append(tops[-1] + count * _LINE + 20)
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    ).get_template("bug_picture.svg.j2")
    return template.render(
        title=title,
        width=_LEFT + len(actors) * (_LANE + _GAP),
        height=tops[-1] + 6,
        lanes=[
            {"name": name, "middle": _LEFT + number * (_LANE + _GAP) + _LANE // 2}
            for number, name in enumerate(actors)
        ],
        rows=[{"y": top} for top in tops[:-1]],
        steps=[
            {
                "x": _LEFT + step.lane * (_LANE + _GAP),
                "y": tops[step.first] + 4,
                "width": _LANE,
                "height": tops[step.last + 1] - tops[step.first] - 8,
                "text_y": tops[step.first] + 22,
                "lines": step.lines,
                "last": step.last == len(rows) - 1,
            }
            for step in steps
        ],
    )


if __name__ == "__main__":
    reports, pictures = Path(sys.argv[1]), Path(sys.argv[2])
    for report in sorted(reports.glob("*.md")):
        if report.stem != "README":
            drawn = picture(report.read_text(encoding="utf-8"))
            (pictures / f"{report.stem}.svg").write_text(drawn, encoding="utf-8")
