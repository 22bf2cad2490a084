# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness models: the consistency models of kernel-models/."""

from __future__ import annotations

import typer

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import ResultFiles
from harness.report.base import CheckOutcome
from harness.tools.models.catalogue import load_models
from harness.tools.models.results import ModelResult
from harness.tools.models.terminal import print_model

app = typer.Typer(
    no_args_is_help=True,
    help="List consistency models that can be booted, and compare what each costs.",
)


@app.command("list")
@guarded
def list_models(*, files: ResultFiles) -> int:
    """List the consistency models: how each works, who has it, and what it cannot do."""
    with Invocation("models list", files) as invocation:
        models = load_models()
        for model in models:
            invocation.results.append(
                ModelResult(
                    id=model.name,
                    outcome=CheckOutcome.NOT_RUN,
                    seconds=0.0,
                    does=model.does,
                    systems=model.systems,
                    mail=model.mail,
                    leave=model.cell.leave,
                    switch=model.cell.switch,
                    cannot=model.cannot,
                    kernels=tuple(name for form in (model, *model.ports) for name in form.kernels),
                )
            )
            print_model(invocation.terminal, model)
        invocation.terminal.print(f"{len(models)} models")
    return invocation.exit_code
