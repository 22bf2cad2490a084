# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness race explore: hold one CPU anywhere while another one acts, and look what comes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.executors import ExecutorOptions, check_travels, open_cluster
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.options import Accel, AccelAsked, Guests, KernelOptions, ResultFiles
from harness.cli.pages import HtmlPage
from harness.cli.prepare import (
    check_kernels,
    prepare_accel,
    prepare_kernel,
    prepare_modules,
    with_mutants,
)
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.tools.race.command import KernelMutants, app
from harness.tools.race.explore.campaign import Campaign, Extent
from harness.tools.race.explore.debug import debug
from harness.tools.race.explore.kept import KeptTrials
from harness.tools.race.explore.kernel_code import KernelCode
from harness.tools.race.explore.page import explore_page
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.points import parse_hold
from harness.tools.race.explore.report import kernel_words, result_of
from harness.tools.race.explore.run import HereRun, PairConditions, Run, ThereRun
from harness.tools.race.explore.scene import require_tcg
from harness.tools.race.explore.session import open_scenes
from harness.tools.race.explore.terminal import print_pair, print_total
from harness.tools.race.explore.trial import Trials
from harness.tools.race.known_bugs import load_known
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.explore.campaign import PairTrials
    from harness.tools.race.explore.pairs import Pair
    from harness.tools.race.explore.results import ExploreResult
    from harness.vm.cluster.client import Cluster


@app.command("explore")
@guarded
def explore(
    pairs: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="PAIR",
            help="A-B, or A-B@STATE; A-any and any-B for all pairs of an action; default: all "
            "that are sensible.",
            show_default=False,
        ),
    ] = (),
    *,
    kernel: KernelOptions,
    mutant: KernelMutants = (),
    files: ResultFiles,
    executors: ExecutorOptions,
    accel: Accel = AccelAsked.TCG,
    guests: Guests = None,
    at: Annotated[
        tuple[str, ...],
        typer.Option(
            "--at",
            metavar="POINT",
            help="Hold A there, in place of all points: FUNCTION, 'call of X in FUNCTION', "
            "'POINT -> POINT' for A and B. Repeatable.",
        ),
    ] = (),
    dense: Annotated[
        bool,
        typer.Option("--dense", help="Also hold A at each access to memory in kernel/livepatch."),
    ] = False,
    off: Annotated[
        bool,
        typer.Option(
            "--off",
            help="Schedule A out at its points (preemptible kernels), and not hold its CPU.",
        ),
    ] = False,
    bound: Annotated[
        int,
        typer.Option(
            min=1,
            max=2,
            metavar="N",
            help="2: hold B too, at each of its points, while A goes on to its end.",
        ),
    ] = 1,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune/--no-prune",
            help="Leave out points at which B waits for the same lock as at one before, and those "
            "before which A has touched nothing that B touches.",
        ),
    ] = True,
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after N trials.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, metavar="S", help="Stop after S seconds.")
    ] = None,
    oracle: Annotated[
        bool,
        typer.Option(
            "--oracle/--no-oracle",
            help="Judge in each trial whether tasks enter what their patch states allow.",
        ),
    ] = True,
    excuse_expected: Annotated[
        bool,
        typer.Option(
            "--excuse-expected", help="Do not fail for bugs that the kernel is known to have."
        ),
    ] = False,
    gdb: Annotated[
        bool,
        typer.Option(
            "--gdb", help="With one PAIR and one --at: wait for gdb, with A held at that point."
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="FILE",
            help="Keep trials that show nothing in this file; those in it are not made again.",
        ),
    ] = None,
    html_file: HtmlPage = None,
) -> int:
    """Hold one CPU at each point of an action while another one acts. Exit 1: something is wrong.

    Each trial is one interleaving on an unmodified kernel; what it shows is shown in fresh guests.
    """
    with Invocation("race explore", files) as invocation, ExitStack() as stack:
        terminal = invocation.terminal
        chosen = find_pairs(pairs)
        holds = tuple(parse_hold(text) for text in at)
        if gdb and (len(chosen) != 1 or len(holds) != 1):
            raise UsageError("--gdb needs one PAIR, and one point by --at")
        if bound > 1 and off:
            raise UsageError("--off is for one hold, and --bound 2 for two")
        check_writable(html_file)
        check_kernels(kernel)
        if not executors.is_here:
            check_travels(kernel)
            if mutant or gdb or trials is not None:
                raise UsageError("--mutant, --gdb and --trials are for guests of this process")
        choice = prepare_accel(invocation, accel)
        require_tcg(choice.accel)
        at_a_time = guests or runs.guests_at_a_time(choice)
        cluster = stack.enter_context(open_cluster(executors, terminal, guests=at_a_time))
        made = prepare_kernel(invocation, with_mutants(terminal, kernel, mutant))
        code = KernelCode(made)
        for hold in holds:
            code.check(hold)
        is_off = off or any(hold.a.off for hold in holds)
        if is_off and not made.config.enabled("PREEMPTION"):
            raise UsageError(
                "this kernel does not preempt tasks in the kernel: A cannot be scheduled out",
                hint="take --kernel-config preempt",
            )
        kept = KeptTrials(resume, made.digest, oracle=oracle) if resume is not None else None
        modules = prepare_modules(terminal, made)
        bugs = load_known((), made.version)
        invocation.print_facts()
        words = kernel_words(kernel, mutant)
        cpus = max(pair.cpus for pair in chosen)
        extent = Extent(
            holds=holds,
            prune=prune and not holds,
            dense=dense,
            bound=bound,
            off=off,
            most=trials,
            seconds=seconds,
        )
        if cluster is None:
            scenes = stack.enter_context(
                open_scenes(choice, made, modules, guests=at_a_time, cpus=cpus, oracle=oracle)
            )
            if gdb:
                debug(scenes, chosen[0], holds[0], terminal.note)
                return invocation.exit_code
            campaign = Campaign(chosen, extent, Trials(scenes), kept)

            def report(each: PairTrials) -> ExploreResult:
                return result_of(each, bugs, words=words, excuse_expected=excuse_expected)

            run: Run = HereRun(campaign, report, guests=at_a_time)
        else:
            conditions = PairConditions(
                request=kernel.request(),
                digest=made.digest,
                accel=choice.accel.value,
                cpus=cpus,
                oracle=oracle,
                words=words,
                excuse_expected=excuse_expected,
            )
            coming = _on_cluster(cluster, chosen, extent, conditions, guests=guests, kept=kept)
            run = ThereRun(chosen, coming)
        start_s = time.monotonic()
        try:
            run.watch(terminal)
        finally:
            results = run.results()
            invocation.results += results
            _print(terminal, results, time.monotonic() - start_s)
            if html_file is not None:
                write_file(html_file, explore_page(invocation.facts, results))
        if pairs:
            _check_started(results, at)
    return invocation.exit_code


def _on_cluster(
    cluster: Cluster,
    pairs: Sequence[Pair],
    extent: Extent,
    conditions: PairConditions,
    *,
    guests: int | None,
    kept: KeptTrials | None,
) -> Iterator[ExploreResult]:
    from harness.tools.race.explore.on_cluster import results_on

    return results_on(cluster, pairs, extent, conditions, guests=guests, kept=kept)


def _print(terminal: Terminal, results: Sequence[ExploreResult], seconds: float) -> None:
    terminal.print("")
    for result in results:
        print_pair(terminal, result)
    if len(results) > 1 or results[0].points > 1:
        print_total(terminal, results, seconds)


def _check_started(results: Sequence[ExploreResult], points: Sequence[str]) -> None:
    """Raise UsageError for a pair that was named and cannot start, or does not pass a point."""
    for result in results:
        if result.outcome is CheckOutcome.NOT_APPLICABLE:
            raise UsageError(f"{result.id}: {result.detail}")
        if points and result.tried and result.not_reached == result.tried and not result.findings:
            names = "', '".join(points)
            raise UsageError(
                f"A of {result.id} does not pass '{names}' here",
                hint="without --at, all points that it passes are tried",
            )
