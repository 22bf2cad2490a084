# SPDX-License-Identifier: GPL-2.0-only
"""Pages and drawings that a command writes beside its results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UsageError
from harness.report.timeline_page import timeline_page, timeline_svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.report.results import RunResult

HtmlTimeline = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the timeline as an HTML page."),
]
SvgTimeline = Annotated[
    Path | None,
    typer.Option("--svg", metavar="FILE", help="Write the timeline as a drawing."),
]


def check_page(*paths: Path | None) -> None:
    """Raise UsageError for a file that could not be written later: before the work."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(f"{path} is a directory; the page needs a file")
        folder = path.absolute().parent
        if not folder.is_dir():
            raise UsageError(f"the folder {folder} for {path.name} does not exist")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise UsageError(f"{path} cannot be written to")


def write_timelines(
    results: Sequence[RunResult],
    facts: Mapping[str, str],
    *,
    title: str,
    html: Path | None = None,
    svg: Path | None = None,
) -> None:
    """Write what was asked for. Raises UsageError when a file cannot be written."""
    if html is not None:
        write_page(html, timeline_page(title, facts, results))
    if svg is not None and results:
        drawing = timeline_svg(results[0])
        if drawing is None:
            raise UsageError(f"nothing was recorded of {results[0].id}, so {svg} is not written")
        write_page(svg, f'<?xml version="1.0" encoding="utf-8"?>\n{drawing}')


def write_page(path: Path, text: str) -> None:
    """Write a page or a drawing; raises UsageError when the file cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
