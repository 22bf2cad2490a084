# SPDX-License-Identifier: GPL-2.0-only
"""The options of a matrix; who verifies one patch imports nothing else of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class MatrixOptions:
    """The options that make a matrix of a verify, and how it is run."""

    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            "-f",
            metavar="FILE",
            help="Verify the patches of this file (klp-verify.toml), each on its kernels. MODULE "
            "and --kernel then choose among them.",
        ),
    ] = None
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="FOLDER",
            help="Keep each cell's result here when it ends. The same command takes up a job that "
            "was interrupted.",
        ),
    ] = None
    rerun_failed: Annotated[
        bool,
        typer.Option(
            "--rerun-failed", help="Run only what has not passed, by the results in --results."
        ),
    ] = False
    anew: Annotated[
        bool, typer.Option("--anew", help="Run all cells, whatever is in --results.")
    ] = False
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Cells at a time; default: by --guests."),
    ] = None
    guests: Annotated[
        int | None,
        typer.Option(
            "--guests",
            min=1,
            metavar="N",
            help="Guests at a time, of all cells; default: what the host can take.",
        ),
    ] = None

    history: Annotated[
        Path | None,
        typer.Option(
            "--history",
            metavar="FOLDER",
            help="Add this run to a history, which `klp-harness history` shows.",
        ),
    ] = None

    @property
    def is_wanted(self) -> bool:
        """Whether one of the options was given."""
        return self != MatrixOptions()
