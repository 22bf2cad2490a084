# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness race: show a race at will, or look for it in many trials."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.executors import ExecutorOptions, open_cluster
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, error_facts
from harness.cli.options import Accel, AccelAsked, Guests, KernelOptions, ResultFiles
from harness.cli.pages import HtmlTimeline, write_timelines
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules, with_mutants
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.tools.race.campaign import Campaign, Extent
from harness.tools.race.catalogue import find_races, known_of
from harness.tools.race.executors import open_trials
from harness.tools.race.fuzz_shrink import given_steps, shorten_hits, with_shortest
from harness.tools.race.results import RaceHit, RaceResult
from harness.tools.race.terminal import print_hit, print_race, print_reproducer
from harness.tools.race.timelines import TrialTimelines
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.campaign import Tally, Trial
    from harness.tools.race.reproducer import Reproducer
    from harness.vm.kernel.kernel import Kernel

app = typer.Typer(help="Show races at will, or look for them.", no_args_is_help=True)

_SEEDS = 1 << 31

KernelMutants = Annotated[
    tuple[str, ...],
    typer.Option(
        "--mutant",
        metavar="NAME",
        help="Break the kernel by a mutant that `klp-harness mutants list` names. Repeatable.",
    ),
]
Names = Annotated[
    tuple[str, ...],
    typer.Argument(
        metavar="[NAME]...", help="Reproducers, or groups of them; default: all.", show_default=""
    ),
]


@app.command("list")
@guarded
def list_races(names: Names = (), *, files: ResultFiles) -> int:
    """List the reproducers: the rule that each is about, and what is known of it."""
    with Invocation("race list", files) as invocation:
        for race in find_races(names):
            result = result_of(race, CheckOutcome.NOT_RUN, known=known_of(race))
            invocation.results.append(result)
            print_reproducer(invocation.terminal, result)
    return invocation.exit_code


@app.command("run")
@guarded
def run_races(
    names: Names = (),
    *,
    kernel: KernelOptions,
    mutant: KernelMutants = (),
    executors: ExecutorOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    guests: Guests = None,
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trials of each; default 1.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, metavar="S", help="Go on for so long, or for --trials if given."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Seed of the first trial; the next has the next number."
        ),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--go-on", help="Go on after a race was shown; else it is enough.")
    ] = False,
    excuse_expected: Annotated[
        bool,
        typer.Option("--excuse-expected", help="A race that is known of the kernel fails nothing."),
    ] = False,
    steps: Annotated[
        str | None,
        typer.Option("--steps", metavar="TEXT", help="Steps for the fuzzer, not those of a seed."),
    ] = None,
    html_file: HtmlTimeline = None,
) -> int:
    """Try to show races, each trial in a fresh guest. Exit 1: one was shown."""
    with (
        Invocation("race run", files) as invocation,
        ExitStack() as stack,
    ):
        terminal = invocation.terminal
        races = find_races(names)
        if steps is not None:
            races = given_steps(races, steps)
        check_writable(html_file)
        if html_file is not None and not executors.is_here:
            raise UsageError("--html records trials of this process, and those are elsewhere")
        if steps is not None and not executors.is_here:
            raise UsageError("--steps is for guests of this process: a worker takes a seed's steps")
        choice = prepare_accel(invocation, accel)
        # Before the kernel: a cluster that is not there is told at once.
        reached = stack.enter_context(
            open_cluster(executors, terminal, guests=guests or runs.guests_at_a_time(choice))
        )
        made = prepare_kernel(invocation, with_mutants(terminal, kernel, mutant))
        races = _possible(invocation, races, made, named=bool(names))
        timelines = TrialTimelines()
        shortest: Mapping[int, str] = {}
        if html_file is not None:
            races = timelines.of(races)
        modules = prepare_modules(terminal, made)
        first = secrets.randbelow(_SEEDS) if seed is None else seed
        if trials is None and seconds is None:
            trials = 1
        invocation.print_facts(seed=str(first))
        with open_trials(
            reached,
            choice,
            accel=accel.value,
            kernel=made,
            modules=modules,
            guests=guests,
            most=None if trials is None else trials * len(races),
            keep=lambda: any(tally.settled for tally in campaign.tallies.values()),
        ) as maker:
            extent = Extent(
                seed=first, trials=trials, budget_s=seconds, guests=maker.guests, go_on=go_on
            )
            campaign = Campaign(races, extent, maker.try_one)
            try:
                _watch(terminal, campaign, extent, len(races))
                if executors.is_here:
                    tallies = campaign.tallies.values()
                    shortest = shorten_hits(terminal, tallies, maker.try_one, given=steps)
            finally:
                for tally in campaign.tallies.values():
                    result = _judge(tally, made, extent, excuse_expected=excuse_expected)
                    result = with_shortest(result, shortest)
                    invocation.results.append(result)
                    print_race(terminal, result)
                if html_file is not None:
                    title = ", ".join(race.name for race in races)
                    write_timelines(
                        timelines.chosen(), invocation.facts, title=title, html=html_file
                    )
    return invocation.exit_code


def _possible(
    invocation: Invocation, races: Sequence[Reproducer], kernel: Kernel, *, named: bool
) -> tuple[Reproducer, ...]:
    """Return the races that this kernel can be tried for; raises UsageError for one by name."""
    possible = []
    for race in races:
        try:
            race.check_kernel(kernel)
        except UsageError as error:
            if named:
                raise
            result = result_of(race, CheckOutcome.NOT_APPLICABLE, detail=error.message)
            invocation.results.append(result)
            print_race(invocation.terminal, result)
        else:
            possible.append(race)
    return tuple(possible)


def _watch(terminal: Terminal, campaign: Campaign, extent: Extent, races: int) -> None:
    """Show the progress of a campaign, and each hit and each failure when it comes."""
    total = None if extent.trials is None else extent.trials * races
    done = hits = 0
    with terminal.progress() as progress:
        progress.stage(f"trials with {extent.guests} guests at a time")
        for trial in campaign.run():
            done += 1
            if trial.shown is not None:
                hits += 1
                print_hit(terminal, trial.race.name, _hit(trial))
            progress.count(done, total, f"trials, {hits} hits")


def _judge(
    tally: Tally, kernel: Kernel, extent: Extent, *, excuse_expected: bool = False
) -> RaceResult:
    """Return what the trials of one reproducer came to; a failure of the kernel counts first."""
    failed = next((trial.failed for trial in tally.trials if trial.failed), None)
    broken = next((trial.error for trial in tally.trials if trial.error), None)
    if tally.hits:
        outcome = CheckOutcome.SHOWN
    elif failed is not None:
        outcome = CheckOutcome.FAILED
    elif broken is not None:
        outcome = CheckOutcome.ERROR
    else:
        outcome = CheckOutcome.NOT_SHOWN if tally.judged else CheckOutcome.NOT_RUN
    low, high = tally.interval()
    error = failed or broken
    result = result_of(tally.race, outcome, known=known_of(tally.race, kernel.version))
    return result.model_copy(
        update={
            "excused": excuse_expected and result.expected,
            "seconds": sum(trial.seconds for trial in tally.trials),
            "seed": extent.seed,
            "trials": tally.judged,
            "hits": tuple(_hit(trial) for trial in tally.hits),
            "low": low,
            "high": high,
            "first_hit_s": tally.first_hit_s,
            "error": error_facts(error) if error is not None else None,
        }
    )


def _hit(trial: Trial) -> RaceHit:
    assert trial.shown is not None
    folder = trial.shown.artefacts
    return RaceHit(
        seed=trial.seed,
        seconds=trial.seconds,
        message=trial.shown.message,
        details=trial.shown.details,
        logs=str(folder) if folder is not None else None,
    )


def result_of(
    race: Reproducer,
    outcome: CheckOutcome,
    *,
    known: str | None = None,
    detail: str | None = None,
) -> RaceResult:
    return RaceResult(
        id=race.name,
        outcome=outcome,
        seconds=0.0,
        title=race.title,
        rule=race.rule,
        fixed_by=race.fixed_by,
        expected=known is not None,
        known=known,
        detail=detail,
    )
