# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness run: load a livepatch, watch its transitions, unload it, tell what happened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.modules import ModuleFinder, NamedModule, module_name
from harness.cli.options import (
    DEFAULT_KERNEL,
    AccelAsked,
    AccelOption,
    JsonFile,
    JunitFile,
    KernelConfig,
    KernelPatches,
    KernelSpec,
    Sha256,
    Smp,
)
from harness.cli.pages import HtmlTimeline, SvgTimeline, check_page, write_timelines
from harness.cli.prepare import (
    KernelAsked,
    describe_accel,
    prepare_accel,
    prepare_kernel,
    run_session,
)
from harness.errors import UsageError
from harness.guest.session import Fresh
from harness.kernel.check import check_module
from harness.kernel.elf import read_module
from harness.observe.plan import Plan, Target, objects_of, plan_module
from harness.observe.watch import watch_plan
from harness.report.story import tell_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.kernel.elf import ModuleInfo
    from harness.kernel.kernel import Kernel
    from harness.report.results import RunResult


@guarded
def run(
    module: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE", help="A .ko file, the name of a sample, or a folder of sources."
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="T.ko", help="Module to load first, for the patch to patch. Repeatable."
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Parameter of the modules. Repeatable."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Refuse on the host what the kernel would not take."
        ),
    ] = True,
    hold: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long the patch stays before it goes."),
    ] = 0.5,
    kernel: KernelSpec = DEFAULT_KERNEL,
    kernel_config: KernelConfig = None,
    patch: KernelPatches = None,
    sha256: Sha256 = None,
    accel: AccelOption = AccelAsked.AUTO,
    smp: Smp = 2,
    html_file: HtmlTimeline = None,
    svg_file: SvgTimeline = None,
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
) -> int:
    """Load each livepatch in a fresh guest, watch, disable, unload; show who switched when."""
    with Invocation("run", json_file=json_file, junit_file=junit_file) as invocation:
        terminal = invocation.terminal
        check_page(html_file, svg_file)
        choice = prepare_accel(invocation, accel)
        asked = KernelAsked(
            spec=kernel, sha256=sha256, fragments=tuple(kernel_config or ()), patches=patch or ()
        )
        made = prepare_kernel(invocation, asked)
        finder = ModuleFinder(terminal, made)
        plans = make_plans(
            finder, made, module, targets=target or (), params=param or (), check=check
        )
        if svg_file is not None and len(plans) > 1:
            raise UsageError("--svg takes one livepatch; --html takes any number")
        facts = {"kernel": made.describe(), "accelerator": describe_accel(choice)}
        terminal.print(f"kernel       {made.describe()}", f"accelerator  {describe_accel(choice)}")
        fresh = Fresh.SNAPSHOT if len(plans) > 1 else Fresh.BOOT
        watched: list[RunResult] = []
        failed = False
        with run_session(choice, cpus=smp, fresh=fresh, name="run", keep=lambda: failed) as session:
            for plan in plans:
                terminal.note(f"loading {plan.name} in a fresh guest")
                with session.guest(made, name=plan.name) as machine:
                    result = watch_plan(machine, plan, hold_s=hold)
                failed = failed or result.error is not None
                invocation.results.append(result)
                watched.append(result)
                tell_result(terminal, result)
        names = ", ".join(result.id for result in watched)
        write_timelines(watched, facts, title=names, html=html_file, svg=svg_file)
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
    patches: list[tuple[NamedModule, ModuleInfo | None]] = []
    for text in named:
        is_folder = Path(text).expanduser().is_dir()
        found = [(module, _read(module.path, check=check)) for module in finder.find(text)]
        if is_folder:
            given += [_as_target(m) for m, info in found if info and not info.is_livepatch]
            found = [(m, info) for m, info in found if info is None or info.is_livepatch]
            if not found:
                raise UsageError(f"no module built from {text} is a livepatch")
        patches += found
    plans = []
    for module, info in patches:
        plan = plan_module(
            module.name,
            module.path,
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
    """Read a module; with ``check`` off, one that cannot be read is the kernel's to refuse."""
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


def _as_target(module: NamedModule) -> Target:
    return Target(name=module_name(module.path), path=module.path)
