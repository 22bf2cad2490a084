# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness mutants sweep: every statement of the livepatch core broken once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.behaviours.mutants import fitted, load_mutants, series_of
from harness.cli.executors import ExecutorOptions, check_travels, open_cluster
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.options import Accel, AccelAsked, Guests, KernelOptions, ResultFiles
from harness.cli.pages import HtmlPage
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel, prepare_modules
from harness.deadline import Deadline
from harness.errors import ExitCode, UsageError
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir, runs_root
from harness.tools.mutants.sample_options import SampleSize, Seed, check_sample
from harness.tools.mutants.sweep.baseline import obtain_baseline
from harness.tools.mutants.sweep.candidates import Operator
from harness.tools.mutants.sweep.choose import Choice
from harness.tools.mutants.sweep.dispatch import Dispatch
from harness.tools.mutants.sweep.explained import NAME, match, read_explained
from harness.tools.mutants.sweep.kept import KeptResults
from harness.tools.mutants.sweep.kernel_of_mutants import CORE, obtain_mutants
from harness.tools.mutants.sweep.likely_tests import LikelyTests, near_rules
from harness.tools.mutants.sweep.results import LeftOutMutant, SweepResult
from harness.tools.mutants.sweep.terminal import print_left_out, print_result, print_summary
from harness.tools.verify.options import RequestOptions
from harness.vm.guest import runs
from harness.vm.kernel.patch_file import read_patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.behaviours.mutants import Mutant
    from harness.report.terminal import Terminal
    from harness.tools.mutants.module_sweep.run import ModuleSweep
    from harness.tools.mutants.sweep.baseline import Baseline
    from harness.tools.mutants.sweep.kernel_of_mutants import Mutants
    from harness.tools.mutants.sweep.pool import RunsTests
    from harness.vm.kernel.kernel import Kernel

_GENERATE_S = 3600.0
_RUN_S = 48 * 3600.0

Names = Annotated[
    tuple[str, ...],
    typer.Argument(metavar="NAME", help="Mutants by name; default: all.", show_default=False),
]


@guarded
def sweep(
    names: Names = (),
    *,
    kernel: KernelOptions,
    files: ResultFiles,
    executors: ExecutorOptions,
    accel: Accel = AccelAsked.AUTO,
    guests: Guests = None,
    file: Annotated[
        tuple[str, ...],
        typer.Option(
            "--file",
            metavar="FILE",
            help="Mutate these C files of the kernel; default: kernel/livepatch. Repeatable.",
        ),
    ] = (),
    operator: Annotated[
        tuple[Operator, ...],
        typer.Option("--operator", help="Break in these ways only. Repeatable."),
    ] = (),
    series: Annotated[
        tuple[Path, ...],
        typer.Option(
            "--series",
            metavar="FILE",
            help="Apply these patches, and mutate only the lines that they touch. Repeatable.",
        ),
    ] = (),
    hooks: Annotated[
        bool,
        typer.Option(
            "--hooks",
            help="Mutate the lines of live patching outside of kernel/livepatch: in forks, module "
            "loading, the idle loop, the way to user space, the unwinder.",
        ),
    ] = False,
    module: Annotated[
        Path | None,
        typer.Option(
            "--module",
            metavar="DIR",
            help="Mutate the sources of this livepatch, and verify each mutant.",
        ),
    ] = None,
    options: RequestOptions,
    explained: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What is known of the livepatch's mutants, as explained.toml."
        ),
    ] = None,
    sample_size: SampleSize = None,
    seed: Seed = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="DIR", help="Keep the results there, as they come."),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Do not take up a sweep that was interrupted.")
    ] = False,
    html_file: HtmlPage = None,
) -> int:
    """Break every statement once, all in one kernel; run the tests that reach it until one fails.

    Exit code 0: all were caught or are equivalent; 1: one survived, or no test reaches it.
    """
    check_writable(html_file)
    check_sample(sample_size, seed)
    choice_of = Choice(
        names=names, files=file, operators=operator, sample_size=sample_size, seed=seed
    )
    if module is not None:
        if series or hooks:
            option = "--series" if series else "--hooks"
            raise UsageError(f"{option} is about the kernel, and --module about a livepatch")
        if not executors.is_here:
            raise UsageError("--module runs verify on this machine: it takes no cluster")
        # Who sweeps a kernel does not wait for verify.
        from harness.tools.mutants.module_sweep.run import ModuleSweep

        return _sweep_module(
            ModuleSweep(
                source=module,
                kernel=kernel,
                options=options,
                choice=choice_of,
                accel=accel,
                guests=guests,
                results=results,
                anew=anew,
                explained=explained,
            ),
            files,
            html_file,
        )
    if options != RequestOptions() or explained is not None:
        raise UsageError(
            "these options say how a livepatch is verified", hint="name its sources with --module"
        )
    if kernel.patches:
        raise UsageError(
            "a sweep of the kernel begins with its clean sources",
            hint="with --series, the lines that patches touch are mutated",
        )
    if hooks and (series or file):
        option = "--series" if series else "--file"
        raise UsageError(f"--hooks chooses the lines to mutate, and {option} other ones")
    # It needs pytest, which the other commands of mutants do not wait for.
    from harness.tools.mutants.sweep.sweeping import open_workers, run_sweep, words_for_tests

    with Invocation("mutants sweep", files) as invocation, ExitStack() as stack:
        terminal = invocation.terminal
        check_kernels(kernel)
        if not executors.is_here:
            check_travels(kernel)
        patches = tuple(read_patch(path) for path in series)
        choice = prepare_accel(invocation, accel)
        most = guests or runs.guests_at_a_time(choice)
        cluster = stack.enter_context(open_cluster(executors, terminal, guests=most))
        clean = prepare_kernel(invocation, kernel)
        store = runs.store()
        with terminal.progress() as progress:
            progress.stage("reading the sources, and compiling them with their mutants")
            made = obtain_mutants(
                clean,
                _mutated(file),
                series=patches,
                hooks=hooks,
                store=store,
                deadline=Deadline.after(_GENERATE_S),
            )
        chosen, of_all = choice_of.of(made.mutants, invocation)
        switched = replace(kernel, patches=(made.patch,))
        holding = prepare_kernel(invocation, switched)
        # The results are about the clean kernel.
        invocation.kernels.remove(holding)
        prepare_modules(terminal, clean)
        workers: RunsTests
        if cluster is None:
            words = words_for_tests(switched, accel.value)
            workers = stack.enter_context(open_workers(holding, choice, words, guests=most))
            waiting = runs.waiting_at_a_time(most) if guests is None else 0
        else:
            from harness.tools.mutants.sweep.on_cluster import ClusterTests, SweepConditions

            conditions = SweepConditions(
                kernel=kernel,
                digest=clean.digest,
                holding=holding.digest,
                files=_mutated(file),
                series=patches,
                hooks=hooks,
                accel=accel.value,
            )
            workers = stack.enter_context(ClusterTests(cluster, conditions))
            most = min(workers.at_a_time, guests or workers.at_a_time)
            waiting = 0
        beside = f", and {waiting} that wait" if waiting else ""
        invocation.print_facts(mutants=of_all, guests=f"{most} at a time{beside}")
        print_left_out(terminal, made.left_out, made.unread)
        with terminal.progress() as progress:
            progress.stage("the suite with no mutant on")
            baseline = obtain_baseline(
                holding,
                workers,
                guests=most,
                store=store,
                deadline=Deadline.after(_RUN_S),
                progress=lambda done, total: progress.count(done, total, "tests"),
            )
        _note_failing(terminal, baseline)

        def key(result: SweepResult) -> str:
            test = result.noticed.test if result.noticed is not None else None
            return f"{made.key}-{baseline.key(test)}"

        kept = stack.enter_context(
            KeptResults(_folder(results, clean, made if series or hooks else None), key)
        )
        chosen_names = {mutant.name for mutant in chosen}
        explanations = match(
            made.mutants,
            made.sources,
            read_explained(_explained()),
            series=series_of(clean.version),
        )
        known = {} if anew else kept.take_up(chosen_names, explanations)
        kept.begin(chosen_names, known)
        if known:
            terminal.note(f"{len(known)} results of an interrupted sweep are kept")
        invocation.more |= {
            "mutants": len(made.mutants),
            "left_out": tuple(LeftOutMutant(name=e.name, why=e.why) for e in made.left_out),
            "unread": dict(made.unread),
            "tests": sum(test.can_notice for test in baseline.tests.values()),
            "failing": baseline.failing,
            "kept": len(known),
        }

        _show_at_end(invocation, html_file, made.sources, f"Kernel {clean.describe()}")
        invocation.results += [kept.with_before(each) for each in known.values()]
        dispatch = Dispatch(
            [mutant for mutant in chosen if mutant.name not in known],
            baseline,
            sources=made.sources,
            guests=most,
            known=explanations,
            named=names,
            likely=LikelyTests(
                baseline, near=near_rules(chosen, _catalogue(clean)), last=kept.noticed_by
            ),
        )
        for result in run_sweep(
            dispatch,
            made,
            clean,
            workers,
            guests=most,
            waiting=waiting,
            deadline=Deadline.after(_RUN_S),
        ):
            kept.add(result)
            whole = kept.with_before(result)
            invocation.results.append(whole)
            invocation.more["switch_s"] = dispatch.switch_s
            print_result(terminal, whole)
        kept.finish()
        invocation.exit_code = _exit_code(invocation.results)
    return invocation.exit_code


def _sweep_module(asked: ModuleSweep, files: ResultFiles, html_file: Path | None) -> int:
    from harness.tools.mutants.module_sweep.run import run_module_sweep

    with Invocation("mutants sweep", files) as invocation:
        run_module_sweep(
            invocation,
            asked,
            at_end=partial(_show_at_end, invocation, html_file, by_verify=True),
        )
        invocation.exit_code = _exit_code(invocation.results)
    return invocation.exit_code


def _show_at_end(
    invocation: Invocation,
    html_file: Path | None,
    sources: Mapping[str, bytes],
    swept: str,
    *,
    by_verify: bool = False,
) -> None:
    """Have the scores printed and the page written when the command ends, however it does."""

    def finish(partial: bool) -> None:
        found = [each for each in invocation.results if isinstance(each, SweepResult)]
        found.sort(key=lambda each: each.number)
        print_summary(invocation.terminal, found)
        if html_file is not None:
            from harness.tools.mutants.sweep.page import sweep_page

            page = sweep_page(found, sources, swept, partial=partial, by_verify=by_verify)
            write_file(html_file, page)

    invocation.at_end(finish)


def _catalogue(clean: Kernel) -> tuple[Mutant, ...]:
    """Return the mutants of the catalogue, in the form whose lines are those of this kernel."""
    known = load_mutants(resource_dir(Resource.KERNEL_MUTANTS))
    return fitted(known, series_of(clean.version))


def _explained() -> Path:
    return resource_dir(Resource.KERNEL_MUTANTS) / NAME


def _mutated(files: Sequence[str]) -> tuple[str, ...]:
    """Return the files whose mutants the kernel holds: always those of the core, too."""
    others = [file for file in files if "/" in file and not file.startswith(f"{CORE[0]}/")]
    return (*CORE, *dict.fromkeys(name for name in others if name.rstrip("/") not in CORE))


def _note_failing(terminal: Terminal, baseline: Baseline) -> None:
    for name in baseline.failing:
        reason = baseline.tests[name].reason
        terminal.note(f"{name} fails without a mutant, and is left out: {reason}")


def _folder(named: Path | None, clean: Kernel, of_part: Mutants | None) -> Path:
    if named is not None:
        return named.absolute()
    digest = clean.digest if of_part is None else of_part.key
    return runs_root() / "sweeps" / f"{clean.version}-{digest[:12]}"


def _exit_code(results: Sequence[object]) -> ExitCode:
    found = [each for each in results if isinstance(each, SweepResult)]
    if any(each.is_gap for each in found):
        return ExitCode.VERDICT
    if any(each.outcome is CheckOutcome.ERROR for each in found):
        return ExitCode.HARNESS
    return ExitCode.HELD
