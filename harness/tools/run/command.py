# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness run: load a livepatch, watch its transitions, unload it, show what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.cli.guest_options import GuestOptions
from harness.cli.invocation import Invocation, check_writable
from harness.cli.keeping import KeepOptions, keeping
from harness.cli.modules import ModuleFinder, check_named, is_folder
from harness.cli.options import Accel, AccelAsked, KernelOptions, ResultFiles, Smp
from harness.cli.pages import HtmlTimeline, SvgTimeline, write_timelines
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel
from harness.errors import UsageError
from harness.livepatch.modules import module_name
from harness.observe.load_plan import Plan, Target, check_params, objects_of, plan_module
from harness.observe.watch import watch_plan
from harness.tools.run.terminal import print_result
from harness.vm.elf.module_info import read_module
from harness.vm.guest import runs
from harness.vm.guest.rootfs import require_fitting
from harness.vm.guest.session import Fresh
from harness.vm.kernel.check import check_module

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.report.run_results import RunResult
    from harness.vm.elf.module_info import ModuleInfo
    from harness.vm.kernel.kernel import Kernel


@guarded
def run(
    module: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="MODULE", help="A .ko file, the name of a sample, or a folder of sources."
        ),
    ],
    target: Annotated[
        tuple[str, ...],
        typer.Option(
            metavar="T.ko", help="Target module to load before the livepatch. Repeatable."
        ),
    ] = (),
    param: Annotated[
        tuple[str, ...],
        typer.Option(metavar="NAME=VALUE", help="Parameter of the modules. Repeatable."),
    ] = (),
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Refuse before any guest starts what the kernel would refuse to load.",
        ),
    ] = True,
    hold: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="How long the patch stays enabled before it is disabled."
        ),
    ] = 0.5,
    *,
    kernel: KernelOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
    html_file: HtmlTimeline = None,
    svg_file: SvgTimeline = None,
    keep: KeepOptions,
    guest: GuestOptions,
) -> int:
    """Try a livepatch: load it in a fresh guest, disable, unload; show when each task switched."""
    with keeping(keep) as keeper, Invocation("run", files) as invocation:
        terminal = invocation.terminal
        check_writable(html_file, svg_file)
        check_kernels(kernel)
        check_named(module, contents=check)
        check_named(target)
        check_params(param)
        in_guests = guest.files()
        if svg_file is not None and len(module) > 1:
            raise UsageError("--svg takes one livepatch; --html takes any number")
        choice = prepare_accel(invocation, accel)
        root = guest.root(terminal)
        made = prepare_kernel(invocation, kernel)
        require_fitting(made, root)
        finder = ModuleFinder(terminal, made)
        plans = make_plans(finder, made, module, targets=target, params=param, check=check)
        if svg_file is not None and len(plans) > 1:
            raise UsageError("--svg takes one livepatch; --html takes any number")
        invocation.print_facts()
        if root is not None:
            terminal.print(f"root         {root.source}")
        fresh = Fresh.SNAPSHOT if len(plans) > 1 else Fresh.BOOT
        watched: list[RunResult] = []
        failed = False

        def finish(partial: bool) -> None:
            write_timelines(
                watched,
                invocation.facts,
                title=", ".join(result.id for result in watched),
                html=html_file,
                svg=svg_file,
                partial=partial,
            )

        invocation.at_end(finish)
        with runs.open_session(
            choice,
            cpus=smp,
            memory_mib=guest.memory,
            kernel_args=guest.kernel_args,
            extra_files=in_guests,
            fresh=fresh,
            name="run",
            keep=lambda: failed,
            keeper=keeper,
            root=root,
        ) as session:
            for plan in plans:
                terminal.note(f"loading {plan.name} in a fresh guest")
                with session.guest(made, name=plan.name) as machine:
                    result = watch_plan(machine, plan, hold_s=hold)
                    if result.error is not None:
                        session.failed(machine, made, f"{plan.name}: {result.error.message}")
                failed = failed or result.error is not None
                invocation.results.append(result)
                watched.append(result)
                print_result(terminal, result)
                if keeper is not None and keeper.stops_all and keeper.has_failed:
                    invocation.partial = plan is not plans[-1]
                    break
    return invocation.exit_code


def make_plans(
    finder: ModuleFinder,
    kernel: Kernel,
    named: Sequence[str],
    *,
    targets: Sequence[str] = (),
    params: Sequence[str] = (),
    check: bool = True,
) -> tuple[Plan, ...]:
    """Return what to do for each livepatch that the arguments name.

    Modules of a folder that are no livepatches are what its livepatches patch. Raises UsageError
    for what cannot be a livepatch of this kernel, unless ``check`` is off.
    """
    given = [_target(text, finder) for text in targets]
    patches: list[tuple[Path, ModuleInfo | None]] = []
    for text in named:
        found = [(path, _read(path, check=check)) for path in finder.find(text)]
        if is_folder(text):
            given += [_as_target(path) for path, info in found if info and not info.is_livepatch]
            found = [each for each in found if each[1] is None or each[1].is_livepatch]
            if not found:
                raise UsageError(f"no module built from {text} is a livepatch")
        patches += found
    plans = []
    for path, info in patches:
        plan = plan_module(
            module_name(path),
            path,
            info,
            given=given,
            # Built only when something is wanted that the user did not give.
            known=finder.samples if info is not None and objects_of(info) else {},
            params=params,
        )
        if check and info is not None:
            loaded = [read_module(target.path) for target in plan.targets]
            check_module(info, kernel, targets=loaded, expect_livepatch=True)
        plans.append(plan)
    return tuple(plans)


def _read(path: Path, *, check: bool) -> ModuleInfo | None:
    """Read a module; with ``check`` off, the kernel refuses one that cannot be read."""
    try:
        return read_module(path)
    except UsageError:
        if check:
            raise
        return None


def _target(text: str, finder: ModuleFinder) -> Target:
    found = finder.find(text)
    if len(found) != 1:
        raise UsageError(
            f"--target {text} names {len(found)} modules", hint="name one .ko file or sample"
        )
    return _as_target(found[0])


def _as_target(path: Path) -> Target:
    return Target(name=module_name(path), path=path)
