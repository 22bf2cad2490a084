# SPDX-License-Identifier: GPL-2.0-only
"""The application of ``python -m benchmarks``: its commands."""

from __future__ import annotations

import typer

from benchmarks.command import bench
from benchmarks.module_mutation.command import grade
from benchmarks.soak import soak

app = typer.Typer(
    help="Measure the costs of klp-harness, and grade its checks; for its developers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("bench", short_help="Measure costs and compare them with their budgets.")(bench)
app.command("grade", short_help="Break correct livepatches: which checks fail?")(grade)
app.command("soak", short_help="Run everything in turns: does anything grow or go wrong?")(soak)
