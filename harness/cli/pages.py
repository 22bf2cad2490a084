# SPDX-License-Identifier: GPL-2.0-only
"""Timelines as pages and drawings, which some commands can write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.invocation import write_file
from harness.errors import UsageError
from harness.report.timeline_page import timeline_page, timeline_svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.report.run_results import RunResult

HtmlPage = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the results as an HTML page."),
]
HtmlTimeline = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the timeline as an HTML page."),
]
SvgTimeline = Annotated[
    Path | None,
    typer.Option("--svg", metavar="FILE", help="Write the timeline as a drawing."),
]


def write_timelines(
    results: Sequence[RunResult],
    facts: Mapping[str, str],
    *,
    title: str,
    html: Path | None = None,
    svg: Path | None = None,
    partial: bool = False,
) -> None:
    """Write the files that are named; ``partial``: results are missing.

    Raises UsageError when a file cannot be written.
    """
    if html is not None:
        write_file(html, timeline_page(title, facts, results, partial=partial))
    if svg is not None and results:
        drawing = timeline_svg(results[0])
        if drawing is None:
            raise UsageError(f"nothing was recorded of {results[0].id}, so {svg} is not written")
        write_file(svg, f'<?xml version="1.0" encoding="utf-8"?>\n{drawing}')
