# SPDX-License-Identifier: GPL-2.0-only
"""The command line: one typer application, one function for each command."""

from __future__ import annotations

from typing import Annotated

import typer

from harness import __version__
from harness.cli import (
    behaviours,
    bench,
    boot,
    classify,
    compare,
    demo,
    doctor,
    kernel,
    matrix,
    module_mutants,
    mutants,
    race,
    race_record,
    run,
    selftests,
    test,
    verify,
)
from harness.report.terminal import Terminal, log_to

app = typer.Typer(
    name="klp-harness",
    help="Tests Linux kernel live patching on real kernels in QEMU.",
    epilog="Exit codes: 0 all held; 1 the kernel or patch under test failed; 2 wrong usage; "
    "3 the harness or host failed; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool | None) -> None:
    if asked:
        typer.echo(f"klp-harness {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell on standard error how things are done.")
    ] = False,
) -> None:
    log_to(Terminal(), verbose=verbose)


app.command("doctor", short_help="What this machine can do, and what it lacks.")(doctor.doctor)
app.add_typer(kernel.app, name="kernel")
app.command("boot", short_help="A shell in a guest.")(boot.boot)
app.command(
    "test",
    short_help="Run the behaviour suite, every rule on a fresh guest.",
    # What it does not know is pytest's.
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
)(test.run_tests)
app.command(
    "matrix",
    short_help="The behaviour suite on several kernels: rule x kernel.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
)(matrix.matrix)
app.command("behaviours", short_help="The rules, their tests, and the last results.")(
    behaviours.behaviours
)
app.command("classify", short_help="The consistency model of a kernel, by experiment.")(
    classify.run_classify
)
app.command("selftests", short_help="The kernel's own livepatch selftests, in guests.")(
    selftests.selftests
)
app.command("compare", short_help="Which rules changed between two kernels.")(compare.compare)
race.app.command("record")(race_record.record_race)
race.app.command("replay")(race_record.replay_race)
app.add_typer(race.app, name="race")
mutants.app.command("modules")(module_mutants.mutate_modules)
app.add_typer(mutants.app, name="mutants")
app.command("run", short_help="Load a livepatch, watch it, unload it.")(run.run)
app.command("verify", short_help="Is a livepatch safe to load, to run, to take back?")(
    verify.verify
)
app.command("demo", short_help="Show a transition from 0 to 1 and back.")(demo.demo)
app.command("bench", short_help="What things cost, against their budgets.")(bench.bench)
