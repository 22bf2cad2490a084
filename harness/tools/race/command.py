# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness race: show races, or look for them in many trials."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.coverage import ObserveOptions, observing
from harness.cli.executors import ExecutorOptions, open_cluster
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable
from harness.cli.options import Accel, AccelAsked, Guests, KernelOptions, ResultFiles
from harness.cli.pages import HtmlTimeline, write_timelines
from harness.cli.prepare import (
    check_kernels,
    prepare_accel,
    prepare_kernel,
    prepare_modules,
    with_mutants,
)
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.tools.race.campaign import Campaign, Extent
from harness.tools.race.catalogue import find_races, known_of
from harness.tools.race.fuzz_shrink import given_steps, shorten_hits, with_shortest
from harness.tools.race.known_bugs import load_known, read_known
from harness.tools.race.open_trials import open_trials
from harness.tools.race.terminal import print_hit, print_race, print_reproducer
from harness.tools.race.timelines import TrialTimelines
from harness.tools.race.trial_results import hit_of, judge, result_of
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.campaign import Trial
    from harness.tools.race.known_bugs import KnownBug
    from harness.tools.race.open_trials import TrialMaker
    from harness.tools.race.reproducer import Reproducer
    from harness.vm.kernel.kernel import Kernel

app = typer.Typer(help="Show races, or look for them in many trials.", no_args_is_help=True)

_SEEDS = 1 << 31

KernelMutants = Annotated[
    tuple[str, ...],
    typer.Option(
        "--mutant",
        metavar="NAME",
        help="Break the kernel with a mutant of `klp-harness mutants list`. Repeatable.",
    ),
]
Names = Annotated[
    tuple[str, ...],
    typer.Argument(
        metavar="NAME", help="Reproducers or groups of them; default: all.", show_default=False
    ),
]


@app.command("list")
@guarded
def list_races(names: Names = (), *, files: ResultFiles) -> int:
    """List the reproducers: the rule that each concerns, and what is known about it."""
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
        int | None, typer.Option(min=1, metavar="N", help="Trials of each reproducer; default: 1.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="S", help="Stop after S seconds, or after --trials if that is earlier."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Seed of the first trial; each further trial has the next number.",
        ),
    ] = None,
    go_on: Annotated[
        bool,
        typer.Option(
            "--go-on", help="Go on after a race was shown; by default that ends its trials."
        ),
    ] = False,
    excuse_expected: Annotated[
        bool,
        typer.Option(
            "--excuse-expected",
            help="Do not fail for a race that the kernel is known to have; after one, the fuzzer "
            "goes on.",
        ),
    ] = False,
    known: Annotated[
        tuple[Path, ...],
        typer.Option(
            "--known",
            metavar="FILE",
            help="More signatures of bugs that the fuzzer's hits are named by. Repeatable.",
        ),
    ] = (),
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps", metavar="TEXT", help="Steps for the fuzzer, in place of random ones."
        ),
    ] = None,
    html_file: HtmlTimeline = None,
    observe: ObserveOptions,
) -> int:
    """Try to show races, each trial in a fresh guest. Exit 1: one was shown."""
    with Invocation("race run", files) as invocation, ExitStack() as stack:
        terminal = invocation.terminal
        races = find_races(names)
        if steps is not None:
            races = given_steps(races, steps)
        check_writable(html_file)
        observe.check()
        observe.require_here(is_here=executors.is_here)
        given = read_known(known)
        check_kernels(kernel)
        if not executors.is_here:
            _check_travels(html_file, steps)
        choice = prepare_accel(invocation, accel)
        # Before the kernel: a missing cluster is then reported at once.
        cluster = stack.enter_context(
            open_cluster(executors, terminal, guests=guests or runs.guests_at_a_time(choice))
        )
        made = prepare_kernel(invocation, with_mutants(terminal, kernel, mutant))
        races = _possible(invocation, races, made, named=bool(names))
        bugs = load_known(given, made.version)
        timelines = TrialTimelines()
        if html_file is not None:
            races = timelines.of(races)
        modules = prepare_modules(terminal, made)
        watch = stack.enter_context(observing(invocation, observe, (made,)))
        if trials is None and seconds is None:
            trials = 1
        extent = Extent(
            seed=secrets.randbelow(_SEEDS) if seed is None else seed,
            trials=trials,
            budget_s=seconds,
            go_on=go_on,
            passed_over=lambda trial: excuse_expected and _is_known(trial, bugs),
        )
        invocation.chosen["seed"] = extent.seed
        invocation.print_facts(seed=str(extent.seed))
        campaign = Campaign(races, extent)
        maker = stack.enter_context(
            open_trials(
                cluster,
                choice,
                accel=accel.value,
                kernel=made,
                modules=modules,
                guests=guests,
                most=None if trials is None else trials * len(races),
                keep=campaign.has_settled,
                watch=watch,
            )
        )
        shortest: Mapping[int, str] = {}
        is_whole = False
        try:
            _watch(terminal, campaign, maker, bugs)
            if executors.is_here:
                found = campaign.found.values()
                shortest = shorten_hits(terminal, found, maker.try_one, given=steps, known=bugs)
            is_whole = True
        finally:
            for found_of in campaign.found.values():
                result = with_shortest(
                    judge(
                        found_of,
                        made.version,
                        extent,
                        excuse_expected=excuse_expected,
                        known=bugs,
                    ),
                    shortest,
                )
                invocation.results.append(result)
                print_race(terminal, result)
            if html_file is not None:
                title = ", ".join(race.name for race in races)
                write_timelines(
                    timelines.chosen(),
                    invocation.facts,
                    title=title,
                    html=html_file,
                    partial=not is_whole,
                )
    return invocation.exit_code


def _is_known(trial: Trial, bugs: Sequence[KnownBug]) -> bool:
    """Return whether a trial is a hit of the fuzzer that looks like a known bug."""
    return trial.shown is not None and hit_of(trial, bugs).bug is not None


def _check_travels(html_file: Path | None, steps: str | None) -> None:
    """Raise UsageError for options that need guests of this process."""
    if html_file is not None:
        raise UsageError("--html needs guests of this process: a worker records no timelines")
    if steps is not None:
        raise UsageError("--steps is for guests of this process: a worker takes a seed's steps")


def _possible(
    invocation: Invocation, races: Sequence[Reproducer], kernel: Kernel, *, named: bool
) -> tuple[Reproducer, ...]:
    """Return the races that this kernel can have.

    Others are not applicable; raises UsageError for one that the user named.
    """
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


def _watch(
    terminal: Terminal, campaign: Campaign, maker: TrialMaker, bugs: Sequence[KnownBug]
) -> None:
    """Run a campaign and show its progress, and each hit as soon as there is one."""
    each = campaign.extent.trials
    total = None if each is None else each * len(campaign.found)
    hits = 0
    with terminal.progress() as progress:
        progress.stage(f"trials with {maker.guests} guests at a time")
        trials = campaign.run(maker.try_one, guests=maker.guests)
        for done, trial in enumerate(trials, start=1):
            if trial.shown is not None:
                hits += 1
                print_hit(terminal, trial.race.name, hit_of(trial, bugs))
            progress.count(done, total, f"trials, {hits} hits")
