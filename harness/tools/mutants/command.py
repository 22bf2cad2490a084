# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness mutants: break the kernel on purpose, and see which tests notice."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.behaviours.mutants import (
    check_rules,
    choose,
    fitted,
    load_mutants,
    read_mutant,
    series_of,
    written_for,
)
from harness.behaviours.rule_tests import find_rule_tests, on_other_kernels
from harness.behaviours.table import load_table
from harness.cli.child_commands import ChildCommands
from harness.cli.executors import ExecutorOptions, check_travels, open_cluster
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.options import Accel, AccelAsked, CleanKernel, Guests, ResultFiles
from harness.cli.pages import HtmlPage
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel, prepare_modules
from harness.deadline import Deadline
from harness.errors import ExitCode, UsageError
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir
from harness.tools.mutants.campaign import run_mutants, without_false_alarms
from harness.tools.mutants.conditions import Conditions
from harness.tools.mutants.mutant_trial import not_run
from harness.tools.mutants.page import matrix_page
from harness.tools.mutants.reached import reached_by
from harness.tools.mutants.results import MutantResult
from harness.tools.mutants.sample import sample
from harness.tools.mutants.sample_options import SampleSize, Seed, check_sample, drawn_seed
from harness.tools.mutants.selftests_verdict import without_broken_selftests
from harness.tools.mutants.sweep.command import sweep
from harness.tools.mutants.terminal import print_listed, print_reached, print_result, print_summary
from harness.tools.selftests.tree import find_suite, source_tree
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.behaviours.mutants import Mutant
    from harness.cli.child_commands import RunCommand
    from harness.observer.test_lines import TestLines
    from harness.report.terminal import Terminal
    from harness.vm.cluster.client import Cluster
    from harness.vm.kernel.kernel import Kernel

app = typer.Typer(help="Break the kernel on purpose; see which tests notice.", no_args_is_help=True)

_RUN_S = 24 * 3600.0
_MOST_RUNS = 2
_NO_MUTANT = {
    CheckOutcome.DOES_NOT_APPLY,
    CheckOutcome.DOES_NOT_BUILD,
    CheckOutcome.DOES_NOT_BOOT,
}

Names = Annotated[
    tuple[str, ...],
    typer.Argument(metavar="NAME", help="Mutants by name; default: all.", show_default=False),
]
Folder = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Take the mutants from this folder's *.patch."),
]


@app.command("list")
@guarded
def list_mutants(
    names: Names = (),
    folder: Folder = None,
    *,
    kernel: CleanKernel,
    files: ResultFiles,
    reached: Annotated[
        bool,
        typer.Option(
            "--reached",
            help="Say which tests run the lines that each changes, as runs with --coverage on the "
            "kernel have seen, and name those that the tests of their rules do not run.",
        ),
    ] = False,
) -> int:
    """List the kernel mutants: what each breaks, and which rules."""
    with Invocation("mutants list", files) as invocation:
        known = load_mutants(folder or resource_dir(Resource.KERNEL_MUTANTS))
        chosen = choose(known, names) if names else known
        suite = resource_dir(Resource.BEHAVIOUR_TESTS)
        lines, carriers = None, find_rule_tests(suite)
        if reached:
            check_kernels(kernel)
            clean = prepare_kernel(invocation, kernel)
            lines = known_lines(clean, suite)
            if lines is None:
                raise UsageError(
                    f"which lines tests run on {clean.describe()} is not known",
                    hint="`klp-harness test --coverage` finds out",
                )
            chosen = fitted(chosen, series_of(clean.version))
        missed = []
        for mutant in chosen:
            result = not_run(mutant)
            invocation.results.append(result)
            print_listed(invocation.terminal, result)
            if lines is not None:
                found = reached_by(mutant, lines, carriers)
                print_reached(invocation.terminal, found)
                missed += [mutant.name] if found.is_missed and mutant.breaks else []
        invocation.terminal.print(f"{len(chosen)} mutants")
        if missed:
            names_of = ", ".join(missed)
            invocation.terminal.print(f"not run by the tests of their rules: {names_of}")
    return invocation.exit_code


@app.command("run")
@guarded
def run_chosen(
    names: Names = (),
    *,
    kernel: CleanKernel,
    executors: ExecutorOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    guests: Guests = None,
    patch: Annotated[
        tuple[Path, ...],
        typer.Option("--patch", metavar="FILE", help="Use your own patch as a mutant. Repeatable."),
    ] = (),
    folder: Folder = None,
    sample_size: SampleSize = None,
    seed: Seed = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Run every test, also after one has noticed.")
    ] = False,
    rules_only: Annotated[
        bool, typer.Option("--rules-only", help="Run only the tests of the broken rules.")
    ] = False,
    selftests: Annotated[
        bool,
        typer.Option("--selftests", help="Run the kernel's own selftests as well, for comparison."),
    ] = False,
    html_file: HtmlPage = None,
) -> int:
    """Build each mutant and run tests until one notices, those of the broken rules first.

    Exit code 0: all were caught; 1: one survived; 2: one does not apply, build or boot.
    """
    with Invocation("mutants run", files) as invocation, ExitStack() as stack:
        terminal = invocation.terminal
        check_kernels(kernel)
        mutants = _mutants(names, patch, folder)
        check_rules(mutants, {rule.id for rule in load_table().rule})
        check_sample(sample_size, seed)
        check_writable(html_file)
        if not executors.is_here:
            check_travels(kernel)
        choice = prepare_accel(invocation, accel)
        most = guests or runs.guests_at_a_time(choice)
        # Before the kernel: a missing cluster is then reported at once.
        cluster = stack.enter_context(
            open_cluster(
                executors, terminal, guests=min(_MOST_RUNS * (executors.workers or 1), most)
            )
        )
        clean = prepare_kernel(invocation, kernel)
        if selftests:
            # Before anything is built: a kernel without its sources has no selftests.
            find_suite(source_tree(clean))
        prepare_modules(terminal, clean)
        series = series_of(clean.version)
        if not names and not patch:
            mutants = _default(terminal, mutants, series)
        mutants = fitted(mutants, series)
        of_all = ""
        if sample_size is not None:
            drawn = drawn_seed(seed)
            of_all = f" of {len(mutants)}, seed {drawn}"
            mutants = sample(mutants, sample_size, drawn)
            invocation.chosen["seed"] = drawn
        # The few tests of a mutant's rules do not fill the guests that the machine can overlap.
        side_by_side = 1 if everything else min(_MOST_RUNS, most)
        suite = resource_dir(Resource.BEHAVIOUR_TESTS)
        conditions = Conditions(
            kernel=kernel.as_arguments(),
            suite=suite,
            carriers=find_rule_tests(suite),
            builds=on_other_kernels(suite),
            accel=accel.value,
            guests=-(-most // side_by_side),
            everything=everything,
            rules_only=rules_only,
            selftests=selftests,
            lines=known_lines(clean, suite),
        )
        invocation.print_facts(mutants=f"{len(mutants)}{of_all}")

        def finish(partial: bool) -> None:
            known = [each for each in invocation.results if isinstance(each, MutantResult)]
            print_summary(terminal, known)
            if html_file is not None:
                write_file(html_file, matrix_page(known, clean.describe(), partial=partial))

        invocation.at_end(finish)
        logs = runs.make_folder("mutants")
        with ChildCommands(logs, runs=side_by_side, deadline=Deadline.after(_RUN_S)) as commands:

            def judge_all(
                chosen: Sequence[Mutant], conditions: Conditions
            ) -> Iterator[MutantResult]:
                found = (
                    run_mutants(chosen, conditions, commands.run)
                    if cluster is None
                    else _run_on(cluster, chosen, conditions, clean)
                )
                for result in found:
                    print_result(terminal, result)
                    yield result

            results = _run(invocation, mutants, conditions, judge_all, commands.run)
        if all(result.outcome is CheckOutcome.CAUGHT for result in results):
            shutil.rmtree(logs, ignore_errors=True)
        else:
            terminal.note(f"logs: {logs}")
        invocation.exit_code = _exit_code(results)
    return invocation.exit_code


def known_lines(clean: Kernel, suite: Path) -> TestLines | None:
    """Return which lines the tests of a suite run on a kernel, if that is known."""
    from harness.observer.test_lines import known_test_lines

    return known_test_lines(clean.digest, store=runs.store(), suite=suite)


def _run_on(
    cluster: Cluster, mutants: Sequence[Mutant], conditions: Conditions, clean: Kernel
) -> Iterator[MutantResult]:
    from harness.tools.mutants.on_cluster import run_mutants_on

    return run_mutants_on(cluster, mutants, conditions, clean.digest)


def _run(
    invocation: Invocation,
    mutants: Sequence[Mutant],
    conditions: Conditions,
    judge_all: Callable[[Sequence[Mutant], Conditions], Iterator[MutantResult]],
    run: RunCommand,
) -> list[MutantResult]:
    """Judge the mutants, and run on the clean kernel what caught them."""
    terminal = invocation.terminal
    results: list[MutantResult] = []

    def again(unsure: Sequence[MutantResult], without: frozenset[str]) -> Iterator[MutantResult]:
        ids = {result.id for result in unsure}
        terminal.note(
            f"{len(without)} tests fail on the clean kernel as well; "
            f"{len(ids)} mutants are tried without them"
        )
        return judge_all(
            [mutant for mutant in mutants if mutant.name in ids],
            replace(conditions, without=without, selftests=False),
        )

    try:
        # What was found before an error is kept, too.
        results.extend(judge_all(mutants, conditions))
        if any(_is_caught(result) for result in results):
            terminal.note("running the tests that failed on the clean kernel")
        results = without_false_alarms(results, conditions, run, again=again)
        results = without_broken_selftests(results, conditions, run)
    finally:
        news_first = sorted(results, key=lambda result: not result.is_news)
        invocation.results += news_first
    return results


def _is_caught(result: MutantResult) -> bool:
    """Whether a test, or one of the kernel's own selftests, noticed the mutant."""
    upstream = result.upstream.outcome if result.upstream is not None else None
    return CheckOutcome.CAUGHT in (result.outcome, upstream)


def _mutants(
    names: Sequence[str], patches: Sequence[Path], folder: Path | None
) -> tuple[Mutant, ...]:
    chosen: tuple[Mutant, ...] = ()
    if names or not patches:
        known = load_mutants(folder or resource_dir(Resource.KERNEL_MUTANTS))
        chosen = choose(known, names) if names else known
    chosen += tuple(read_mutant(path) for path in patches)
    twice = {m.name for m in chosen if [other.name for other in chosen].count(m.name) > 1}
    if twice:
        raise UsageError(f"two mutants are named {min(twice)}", hint="rename one of the patches")
    return chosen


def _default(terminal: Terminal, mutants: tuple[Mutant, ...], series: str) -> tuple[Mutant, ...]:
    """Return the mutants to run when no name was given, and print how many are left out."""
    fitting = written_for(mutants, series)
    chosen = tuple(mutant for mutant in fitting if mutant.equivalent is None)
    if len(fitting) < len(mutants):
        terminal.note(f"{len(mutants) - len(fitting)} mutants are not written for {series}")
    if len(chosen) < len(fitting):
        left = len(fitting) - len(chosen)
        terminal.note(
            f"{left} mutants are left out: no test can notice them, as their headers prove"
        )
    if not chosen:
        raise UsageError(f"no mutant is written for {series}")
    return chosen


def _exit_code(results: Sequence[MutantResult]) -> ExitCode:
    outcomes = {result.outcome for result in results}
    if any(result.is_news for result in results):
        return ExitCode.VERDICT
    if outcomes & _NO_MUTANT:
        return ExitCode.USAGE
    return ExitCode.HARNESS if CheckOutcome.ERROR in outcomes else ExitCode.HELD


app.command("sweep")(sweep)
