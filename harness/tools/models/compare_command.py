# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness models compare: what each consistency model costs, and what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.behaviours.mutants import series_of
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.options import Accel, AccelAsked, KernelOptions, ResultFiles
from harness.cli.pages import HtmlPage
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules
from harness.errors import ExitCode, KlpError, UsageError
from harness.report.base import CheckOutcome
from harness.tools.models.catalogue import choose_models, load_models
from harness.tools.models.classify_command import NO_PLACE, NOT_MADE, booted, prepare_model
from harness.tools.models.command import app
from harness.tools.models.compare import MEASURES, Collected, Prepared, compare, not_made
from harness.tools.models.compare_page import compare_page
from harness.tools.models.compare_terminal import print_compared, print_finding
from harness.tools.models.results import ComparedResult
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from harness.tools.models.catalogue import Model
    from harness.tools.models.compare import Measure
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

_MEMORY_MIB = 512


@app.command("compare")
@guarded
def compare_models(
    names: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="MODEL",
            help="Models by name, or a file; default: all that are written for the kernel.",
            show_default=False,
        ),
    ] = (),
    *,
    kernel: KernelOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    measure: Annotated[
        tuple[str, ...],
        typer.Option(
            "--measure",
            metavar="NAME",
            help="Take only this measure. Repeatable. "
            f"There are: {', '.join(each.name for each in MEASURES)}.",
        ),
    ] = (),
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often the measures of time are taken.")
    ] = 3,
    html_file: HtmlPage = None,
) -> int:
    """Run each model through the same work by turns: its times, its limits, its consistency.

    Exit code 0: each kept what it promises, and what null does not promise was seen to break. 1:
    one did not, or its guest died. 2: a model's kernel does not apply, build or boot. A transition
    that a model can never end is a result, with its reason.
    """
    with Invocation("models compare", files) as invocation:
        check_writable(html_file)
        measures = _measures(measure)
        known = load_models()
        named = choose_models(names, known)
        choice = prepare_accel(invocation, accel)
        clean = prepare_kernel(invocation, kernel)
        invocation.kernels.remove(clean)
        series = series_of(clean.version)
        models = named or tuple(
            model for model in known if any(form.suits(series) for form in (model, *model.ports))
        )
        for model in models:
            model.options(kernel, series)
        collected = Collected([model.name for model in models])
        missing: list[ComparedResult] = []

        def finish(partial: bool) -> None:
            found = [each for each in invocation.results if isinstance(each, ComparedResult)]
            print_compared(invocation.terminal, models, found)
            if html_file is not None:
                page = compare_page(models, found, invocation.facts, partial=partial)
                write_file(html_file, page)

        invocation.at_end(finish)
        kernels = _kernels(invocation, kernel, models, missing)
        invocation.results += missing
        invocation.print_facts(models=", ".join(model.name for model, _ in kernels) or "none")
        at_a_time = min(runs.guests_at_a_time(choice), len(kernels) * len(measures)) or 1
        with runs.open_session(
            choice, guests=at_a_time, name="models", memory_mib=_MEMORY_MIB
        ) as session:
            prepared = [_prepared(invocation, session, model, made) for model, made in kernels]
            for tried in compare(prepared, measures, rounds=rounds, at_a_time=at_a_time):
                collected.add(tried)
                invocation.results[:] = [*missing, *collected.results()]
                print_finding(invocation.terminal, tried)
        outcomes = {result.outcome for result in invocation.results}
        if outcomes & NOT_MADE and not outcomes & {CheckOutcome.FAILED, CheckOutcome.ERROR}:
            invocation.exit_code = ExitCode.USAGE
    return invocation.exit_code


def _measures(names: Sequence[str]) -> tuple[Measure, ...]:
    """Return the measures of these names, or all; raises UsageError for a name unknown."""
    known = {measure.name: measure for measure in MEASURES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"there is no measure {unknown[0]}", hint=f"there are: {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) or MEASURES


def _kernels(
    invocation: Invocation,
    options: KernelOptions,
    models: Sequence[Model],
    missing: list[ComparedResult],
) -> list[tuple[Model, Kernel]]:
    """Obtain the kernels of all models; a result for each that cannot be made."""
    found = []
    for model in models:
        try:
            found.append((model, prepare_model(invocation, options, model)))
        except KlpError as error:
            outcome = NO_PLACE.get(type(error).__name__)
            if outcome is None:
                raise
            missing.append(not_made(model.name, outcome, error))
            invocation.terminal.error(error)
    return found


def _prepared(invocation: Invocation, session: Session, model: Model, kernel: Kernel) -> Prepared:
    def guest(name: str) -> AbstractContextManager[Machine]:
        return booted(session, kernel, name, model, spare=False)

    modules = prepare_modules(invocation.terminal, kernel)
    return Prepared(model=model, modules=modules, guest=guest)
