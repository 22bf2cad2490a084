# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness race explore: hold one CPU anywhere while another one acts, and look what comes."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from harness.errors import HarnessError, ModuleRefused, UsageError
from harness.observer.watch import Watch
from harness.tools.race.command import KernelMutants, app
from harness.tools.race.explore.campaign import Campaign, Extent
from harness.tools.race.explore.debug import debug
from harness.tools.race.explore.kept import KeptTrials
from harness.tools.race.explore.kernel_code import KernelCode
from harness.tools.race.explore.page import explore_page
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.points import parse_hold
from harness.tools.race.explore.report import kernel_words, result_of
from harness.tools.race.explore.scene import Scenes, guest_modules, require_tcg
from harness.tools.race.explore.terminal import print_finding, print_pair, print_total
from harness.tools.race.explore.trial import Trials
from harness.tools.race.known_bugs import load_known
from harness.vm.guest import run_folder, runs
from harness.vm.guest.plugin import no_plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.explore.campaign import PairTrials
    from harness.tools.race.explore.points import Hold
    from harness.tools.race.explore.results import ExploreResult
    from harness.vm.kernel.kernel import Kernel


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

    Each trial is one interleaving on an unmodified kernel, in a fresh guest.
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
        choice = prepare_accel(invocation, accel)
        require_tcg(choice.accel)
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
        at_a_time = guests or runs.guests_at_a_time(choice)
        watch = stack.enter_context(_watch_of(made)) if oracle else None
        session = stack.enter_context(
            runs.open_session(
                choice,
                name="explore",
                guests=at_a_time,
                cpus=max(pair.cpus for pair in chosen),
                extra_files=guest_modules(modules),
                plugins=watch or no_plugin,
            )
        )
        scenes = stack.enter_context(Scenes(session, made, watch=watch, modules=modules))
        if gdb:
            debug(scenes, chosen[0], holds[0], terminal.note)
            return invocation.exit_code
        extent = Extent(
            holds=holds, dense=dense, bound=bound, off=off, most=trials, seconds=seconds
        )
        campaign = Campaign(chosen, extent, Trials(scenes), kept)
        words = kernel_words(kernel, mutant)

        def report(each: PairTrials) -> ExploreResult:
            return result_of(each, bugs, words=words, excuse_expected=excuse_expected)

        start_s = time.monotonic()
        try:
            _watch(terminal, campaign, report, guests=at_a_time)
        finally:
            results = [report(each) for each in campaign.pairs]
            invocation.results += results
            _print(terminal, results, time.monotonic() - start_s)
            if html_file is not None:
                write_file(html_file, explore_page(invocation.facts, results))
        if pairs:
            _check_started(campaign, holds)
    return invocation.exit_code


@contextmanager
def _watch_of(kernel: Kernel) -> Iterator[Watch]:
    """Prepare to observe the kernel's guests, in a folder that is removed at the end."""
    folder = runs.folder_for("observed")
    claimed = run_folder.claim(folder)
    watch = Watch(folder=folder, store=runs.store(), files=(), oracle=True, clock=False)
    try:
        try:
            watch(kernel)
        except HarnessError as error:
            error.hint = error.hint or "--no-oracle explores without judging consistency"
            raise
        yield watch
    finally:
        watch.remove()
        claimed.release()


def _watch(
    terminal: Terminal,
    campaign: Campaign,
    report: Callable[[PairTrials], ExploreResult],
    *,
    guests: int,
) -> None:
    """Run a campaign and show its progress, and each finding as soon as there is one."""
    found = 0
    with terminal.progress() as progress:
        pairs = "1 pair" if len(campaign.pairs) == 1 else f"{len(campaign.pairs)} pairs"
        progress.stage(f"{pairs} with {guests} guests at a time")
        for trials, new in campaign.run(guests=guests):
            if new is not None:
                found += 1
                result = report(trials)
                finding = next(
                    each for each in result.findings if each.message == new.wrong.message
                )
                print_finding(terminal, result, finding)
            progress.count(campaign.tried, campaign.known_total, f"trials, {found} found")


def _print(terminal: Terminal, results: Sequence[ExploreResult], seconds: float) -> None:
    terminal.print("")
    for result in results:
        print_pair(terminal, result)
    if len(results) > 1 or results[0].points > 1:
        print_total(terminal, results, seconds)


def _check_started(campaign: Campaign, holds: Sequence[Hold]) -> None:
    """Raise UsageError for a pair that was named and cannot start, or does not pass a point."""
    for trials in campaign.pairs:
        if isinstance(trials.error, ModuleRefused):
            raise UsageError(f"{trials.pair} cannot start: {trials.error.message}")
        if holds and trials.tried and trials.not_reached == trials.tried and not trials.found:
            points = "', '".join(str(hold) for hold in holds)
            raise UsageError(
                f"{trials.pair.a.name} does not pass '{points}' here",
                hint="without --at, all points that it passes are tried",
            )
