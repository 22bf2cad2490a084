# SPDX-License-Identifier: GPL-2.0-only
"""``python -m benchmarks bench`` and ``grade``: what `make bench` and `make grade` run."""

from __future__ import annotations

import typer

from benchmarks.command import bench
from benchmarks.module_mutation.command import grade
from harness.cli import run_application

app = typer.Typer(
    help="What the harness costs, and what its checks notice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("bench", short_help="Measure what things cost, against their budgets.")(bench)
app.command("grade", short_help="Break correct livepatches; show which checks notice.")(grade)

if __name__ == "__main__":
    run_application(lambda: app, "benchmarks")
