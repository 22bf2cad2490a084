# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness verify: is a livepatch safe to load, to run under load, to upgrade, to unload?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.coverage import ObserveOptions, observing
from harness.cli.executors import ExecutorOptions
from harness.cli.exits import guarded
from harness.cli.guest_options import GuestOptions
from harness.cli.invocation import Invocation, check_writable
from harness.cli.keeping import KeepOptions, keeping
from harness.cli.modules import ModuleFinder, check_named
from harness.cli.options import Accel, AccelAsked, KernelsOptions, ResultFiles, Smp
from harness.cli.pages import HtmlPage
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.tools.verify.api import guests_at_a_time, verify_case
from harness.tools.verify.asked import Asked
from harness.tools.verify.matrix.options import MatrixOptions
from harness.tools.verify.options import RequestOptions
from harness.tools.verify.report import Report
from harness.tools.verify.request import LoadProfile, VerifyRequest
from harness.tools.verify.results import results_of
from harness.tools.verify.user_load import libraries_of
from harness.tools.verify.verdict import Check, Verdict
from harness.vm.guest import runs
from harness.vm.guest.rootfs import require_fitting
from harness.vm.kernel.patch_file import read_patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from harness.tools.verify.case import Case
    from harness.tools.verify.matrix.plan import MatrixPlan
    from harness.vm.guest.session import Session
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

_CPUS = 2
_DEBUG = "debug"
_DEBUG_SLOWER = 4
_DEFAULTS = {
    "params": {},
    "load": (),
    "scenes": (),
    "thorough": VerifyRequest.thorough,
    "cycles": VerifyRequest.cycles,
    "within_s": VerifyRequest.within_s,
    "check_timeout_s": VerifyRequest.check_timeout_s,
}


@guarded
def verify(
    module: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="MODULE",
            help="A .ko file, the name of a sample, or a folder of sources.",
            show_default=False,
        ),
    ] = (),
    source: Annotated[
        tuple[Path, ...],
        typer.Option(
            metavar="FIX.patch",
            help="A diff of the kernel's sources, of which klp-build or kpatch-build makes the "
            "module. Repeatable.",
        ),
    ] = (),
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Longer, and on a kernel with lockdep and KASAN.")
    ] = False,
    html_file: HtmlPage = None,
    *,
    options: RequestOptions,
    kernels: KernelsOptions,
    files: ResultFiles,
    matrix: MatrixOptions,
    executors: ExecutorOptions,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = _CPUS,
    keep: KeepOptions,
    guest: GuestOptions,
    observe: ObserveOptions,
) -> int:
    """Verify livepatches: is each safe to load, to run under load, to upgrade, to unload?

    Several kernels, or a manifest (-f), make a table of patches and kernels.
    """
    check_writable(html_file)
    observe.check()
    settings = options.settings() | {"thorough": thorough}
    if not module and not source and matrix.manifest is None:
        raise UsageError("nothing to verify", hint="name a module, or a diff with --source")
    if matrix.is_wanted or len(kernels.specs) > 1 or not executors.is_here:
        _refuse_in_table(settings["load"], guest, keep, observe, smp)
        plan = _planned(module, source, options, settings, kernels, matrix)
        from harness.tools.verify.matrix.command import run_matrix

        return run_matrix(plan, matrix, executors, files=files, accel=accel, html=html_file)
    kernel = kernels.each()[0]
    shape: dict[str, Any] = {
        "cpus": smp,
        "memory_mib": guest.memory,
        "kernel_args": guest.kernel_args,
        "extra_files": dict(guest.files()),
    }
    asked = Asked(
        modules=module,
        sources=source,
        targets=options.target,
        replaces=options.replaces,
        request=partial(VerifyRequest, check=options.check, **settings),
    )
    with keeping(keep) as keeper, Invocation("verify", files) as invocation:
        check_kernels(kernel)
        check_named(module)
        options.refuse_unusable()
        for diff in source:
            read_patch(diff)
        choice = prepare_accel(invocation, accel)
        shape["root"] = guest.root(invocation.terminal)
        if shape["root"] is None:
            shape["extra_files"] |= libraries_of(settings["load"])
        report = Report(invocation, html_file, keeper)
        made = prepare_kernel(invocation, kernel)
        _verify_on(invocation, choice, made, asked, report, shape, observe=observe)
        if thorough and (built := asked.built_files()):
            report.add_no_debug(built[0])
        elif thorough and not report.stops:
            debug = replace(kernel, fragments=(*kernel.fragments, _DEBUG))
            made = prepare_kernel(invocation, debug)
            _verify_on(invocation, choice, made, asked, report, shape, debug=True)
    return invocation.exit_code


def _refuse_in_table(
    loads: Sequence[LoadProfile | Path],
    guest: GuestOptions,
    keep: KeepOptions,
    observe: ObserveOptions,
    smp: int,
) -> None:
    """Raise UsageError for what one patch on one kernel can have, and a table cannot."""
    own = [str(load) for load in loads if load not in list(LoadProfile)]
    if observe.observes:
        raise UsageError(
            "a table of patches and kernels has no guest that is observed",
            hint="verify the patch alone, on one --kernel, with --oracle or --coverage",
        )
    if own or guest != GuestOptions() or keep.is_asked or smp != _CPUS:
        raise UsageError(
            "a table of patches and kernels keeps no guest, and has guests and loads as they are "
            "by default",
            hint="verify the patch alone, on one --kernel, with --load PROGRAM, --file, --append, "
            "--memory, --smp, --rootfs, or to keep a guest",
        )


def _planned(
    modules: tuple[str, ...],
    sources: tuple[Path, ...],
    options: RequestOptions,
    settings: Mapping[str, Any],
    kernels: KernelsOptions,
    matrix: MatrixOptions,
) -> MatrixPlan:
    """Return the cells that are asked for, when all that is named can be used; else UsageError."""
    if matrix.manifest is not None:
        from harness.tools.verify.matrix.from_manifest import plan_of
        from harness.tools.verify.matrix.manifest import read_manifest

        files = [sources, options.target, options.replaces, options.check]
        given = [*files, kernels.fragments, kernels.patches]
        if any(given) or settings != _DEFAULTS:
            raise UsageError(
                "with a manifest, MODULE and --kernel choose among its patches and kernels, and no "
                "other option changes how they are verified",
                hint=f"write it in {matrix.manifest}: a key has the name of the option",
            )
        return plan_of(read_manifest(matrix.manifest)).only(modules, kernels.specs)
    from harness.tools.verify.matrix.from_words import plan_of_words

    check_kernels(*kernels.each())
    check_named(modules)
    options.refuse_unusable()
    for diff in sources:
        read_patch(diff)
    return plan_of_words(
        modules=modules,
        sources=sources,
        targets=options.target,
        replaces=options.replaces,
        check=options.check,
        settings=settings,
        kernels=kernels.each(),
        thorough=settings["thorough"],
    )


def _verify_on(
    invocation: Invocation,
    choice: AccelChoice,
    kernel: Kernel,
    asked: Asked,
    report: Report,
    shape: Mapping[str, Any],
    *,
    debug: bool = False,
    observe: ObserveOptions | None = None,
) -> None:
    """Verify all modules on one kernel; ``shape`` says what its guests are like."""
    terminal = invocation.terminal
    require_fitting(kernel, shape["root"])
    finder = ModuleFinder(terminal, kernel, lines=observe is not None and observe.coverage)
    cases = asked.cases(finder, kernel, terminal)
    terminal.print(f"kernel       {kernel.describe()}", f"accelerator  {choice.describe()}")
    if shape["root"] is not None:
        terminal.print(f"root         {shape['root'].source}")
    guests = guests_at_a_time(choice)
    livepatches = {path: finder.folders.get(path) for case in cases for path in case.livepatches}
    with (
        observing(invocation, observe, (kernel,), livepatches=livepatches) as watch,
        runs.open_session(
            choice,
            **shape,
            name="verify",
            # Deadlines are scaled by it: a kernel that checks itself is several times slower.
            guests=guests * _DEBUG_SLOWER if debug else guests,
            keep=lambda: report.keep_logs,
            keeper=report.keeper,
            watch=watch,
        ) as session,
    ):
        for case in cases:
            verdict = _verify_one(invocation, case, session, guests)
            report.add(_on_debug(verdict) if debug else verdict, case.request.module)
            if report.stops:
                invocation.partial = case is not cases[-1]
                break


def _verify_one(invocation: Invocation, case: Case, session: Session, guests: int) -> Verdict:
    """Verify one module with progress; however it ends, what was found is reported."""
    known: list[Check] = []
    with invocation.terminal.progress() as progress:

        def note(check: Check) -> None:
            known.append(check)
            found = f" [{check.code}] {check.detail}"
            is_failed = check.outcome is CheckOutcome.FAILED
            progress.stage(f"{check.id}: {check.outcome.value}{found if is_failed else ''}")

        progress.stage(f"{case.name}: {guests} guests at a time")
        try:
            return verify_case(case, session, guests=guests, on_check=note)
        except BaseException:
            invocation.results += results_of(Verdict(module=case.name, checks=tuple(known)))
            raise


def _on_debug(verdict: Verdict) -> Verdict:
    """Return a verdict whose names differ from those on the kernel itself."""
    named = f" ({_DEBUG})"
    return replace(
        verdict,
        module=verdict.module + named,
        runs=tuple(
            run.model_copy(update={"id": run.id.replace("/", f"{named}/", 1)})
            for run in verdict.runs
        ),
    )
