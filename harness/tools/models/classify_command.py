# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness classify: which consistency model a kernel has, and how that is known."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from harness.behaviours.mutants import series_of
from harness.cli.child_commands import ChildCommands, Command, Lane
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import Accel, AccelAsked, KernelOptions, ResultFiles, Smp
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel, prepare_modules
from harness.deadline import Deadline
from harness.errors import (
    ExitCode,
    KernelBuildFailed,
    KernelDoesNotBoot,
    KernelDoesNotBuild,
    KernelVerdict,
)
from harness.report.base import CheckOutcome
from harness.threads import run_jobs
from harness.tools.models.catalogue import choose_models, load_models
from harness.tools.models.classify import classify
from harness.tools.models.results import ClassifyReport, ClassifyResult, Leave
from harness.tools.models.terminal import place, print_all, print_classified
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.cli.child_commands import Done
    from harness.tools.models.catalogue import Model
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

_ALL_S = 4 * 3600.0
_EXPERIMENTS = 4
NO_PLACE = {
    # One that is not written for the kernel's series, or that this kernel cannot be made as.
    "KernelUnfit": CheckOutcome.NOT_APPLICABLE,
    "PatchDoesNotApply": CheckOutcome.DOES_NOT_APPLY,
    "KernelDoesNotBuild": CheckOutcome.DOES_NOT_BUILD,
    "KernelDoesNotBoot": CheckOutcome.DOES_NOT_BOOT,
}


NOT_MADE = {
    CheckOutcome.DOES_NOT_APPLY,
    CheckOutcome.DOES_NOT_BUILD,
    CheckOutcome.DOES_NOT_BOOT,
}


@guarded
def run_classify(
    kernel: KernelOptions,
    files: ResultFiles,
    models: Annotated[
        tuple[str, ...],
        typer.Option(
            "--model",
            metavar="NAME",
            help="Make the kernel one with this model (`models list` names them; all: each in "
            "turn), and check that it is. Repeatable.",
        ),
    ] = (),
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
) -> int:
    """Find the consistency model of a kernel, its place in the table LEAVE x SWITCH, by experiment.

    No model is a failure. Exit code 1 means that a guest died or complained, that a transition did
    not end, that the observations fit no place in the table, or that a model's kernel is elsewhere.
    """
    chosen = choose_models(models, load_models())
    with Invocation("classify", files) as invocation:
        choice = prepare_accel(invocation, accel)
        if len(chosen) > 1:
            arguments = (*kernel.as_arguments(), f"--accel={accel.value}", f"--smp={smp}")
            at_a_time = max(1, runs.guests_at_a_time(choice) // _EXPERIMENTS)
            return _each(invocation, kernel, chosen, arguments, at_a_time)
        model = chosen[0] if chosen else None
        made = prepare_model(invocation, kernel, model)
        modules = prepare_modules(invocation.terminal, made)
        invocation.print_facts(**({"model": model.name} if model is not None else {}))
        guests = min(_EXPERIMENTS, runs.guests_at_a_time(choice))
        with runs.open_session(choice, cpus=smp, guests=guests, name="classify") as session:
            results = classify(
                lambda name: booted(session, made, name, model),
                modules,
                model=model,
                guests=guests,
            )
        invocation.results += results
        invocation.more |= {"leave": results[0].leave, "switch": results[0].switch}
        print_classified(invocation.terminal, results)
    return invocation.exit_code


def prepare_model(invocation: Invocation, kernel: KernelOptions, model: Model | None) -> Kernel:
    """Obtain the kernel, with a model's patch and fragments where one is named.

    The sources' series decides which form of a patch is taken, so the clean kernel is obtained
    first. Raises KernelDoesNotBuild, and what `prepare_kernel` does.
    """
    if model is None:
        return prepare_kernel(invocation, kernel)
    check_kernels(kernel)
    series = ""
    if model.path is not None:
        clean = prepare_kernel(invocation, replace(kernel, patches=()))
        invocation.kernels.remove(clean)
        series = series_of(clean.version)
    try:
        return prepare_kernel(invocation, model.options(kernel, series))
    except KernelBuildFailed as error:
        raise KernelDoesNotBuild(
            f"the kernel of the model {model.name} does not build: {error.message}",
            details=error.details,
            artefacts=error.artefacts,
        ) from error


@contextlib.contextmanager
def booted(
    session: Session,
    kernel: Kernel,
    name: str,
    model: Model | None,
    *,
    spare: bool = True,
) -> Iterator[Machine]:
    """Start a guest. A model's kernel that does not boot is no verdict: KernelDoesNotBoot."""
    with contextlib.ExitStack() as stack:
        try:
            machine = stack.enter_context(session.guest(kernel, name=name, spare=spare))
        except KernelVerdict as error:
            if model is None:
                raise
            raise KernelDoesNotBoot(
                f"the kernel of the model {model.name} does not boot: {error.message}",
                hint="`klp-harness models list` names the series that each is written for",
                details=error.details,
                artefacts=error.artefacts,
            ) from error
        yield machine


def _each(
    invocation: Invocation,
    kernel: KernelOptions,
    models: Sequence[Model],
    arguments: Sequence[str],
    at_a_time: int,
) -> int:
    """Classify each model by a command of its own; return the exit code."""
    check_kernels(kernel)
    folder = runs.make_folder("classify-models")
    terminal = invocation.terminal
    found: list[ClassifyResult] = []
    invocation.at_end(lambda _: print_all(terminal, models, found))
    with ChildCommands(folder, runs=at_a_time, deadline=Deadline.after(_ALL_S)) as commands:

        def do(model: Model) -> tuple[Model, Done]:
            words = ("--model", model.name, *arguments)
            return model, commands.run(
                Command(lane=Lane.RUN, name=model.name, arguments=("classify", *words))
            )

        # Those that wait longest come first, so that nobody waits for them alone at the end.
        slow_first = sorted(models, key=lambda model: model.cell.leave is not Leave.KERNEL)
        for model, done in run_jobs(slow_first, do, at_a_time=at_a_time, name="models"):
            results = results_of(model, done)
            found += results
            invocation.results += results
            kernels = done.report.kernels if done.report is not None else ()
            invocation.known_kernels += tuple(
                kernel for kernel in kernels if kernel not in invocation.known_kernels
            )
            terminal.print(f"{model.name:18} {place(results[0])} ({done.seconds:.0f} s)")
    outcomes = {result.outcome for result in found}
    if outcomes & NOT_MADE and not outcomes & {CheckOutcome.FAILED, CheckOutcome.ERROR}:
        invocation.exit_code = ExitCode.USAGE
    return invocation.exit_code


def results_of(model: Model, done: Done) -> tuple[ClassifyResult, ...]:
    """Return the results of a model's command; one that says so where there is no kernel."""
    report = done.report
    if isinstance(report, ClassifyReport) and report.results:
        return report.results
    error = report.error if report is not None else None
    outcome = CheckOutcome.ERROR
    if error is not None:
        failed = CheckOutcome.FAILED if error.fault == "kernel" else CheckOutcome.ERROR
        outcome = NO_PLACE.get(error.kind, failed)
    return (
        ClassifyResult(
            id=model.name,
            outcome=outcome,
            seconds=done.seconds,
            model=model.name,
            expected=str(model.cell),
            detail=error.message if error is not None else done.last_lines(),
        ),
    )
