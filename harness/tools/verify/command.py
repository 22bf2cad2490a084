# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness verify: the regression battery for a patch module."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable
from harness.cli.modules import ModuleFinder
from harness.cli.options import Accel, AccelAsked, KernelOptions, ResultFiles
from harness.cli.pages import HtmlPage
from harness.cli.prepare import prepare_accel, prepare_kernel
from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.report.base import CheckOutcome
from harness.tools.verify import (
    Check,
    Code,
    LoadProfile,
    Verdict,
    VerifyRequest,
    check_together,
    guests_at_a_time,
    verify_patch,
)
from harness.tools.verify.from_diff.obtain import obtain_from_patch
from harness.tools.verify.results import VerifyResult
from harness.tools.verify.terminal import print_verdict
from harness.tools.verify.verdict_page import VerdictPage, facts_of, line_of, results_of
from harness.vm.elf.module_info import read_module
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.report.terminal import Terminal
    from harness.vm.guest.session import Session
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

_CPUS = 2
_SOURCE_S = 3600.0
_DEBUG = "debug"
_DEBUG_SLOWER = 4


@guarded
def verify(
    module: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="[MODULE]...",
            help="A .ko file, the name of a sample, or a folder of sources.",
            show_default="",
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
    replaces: Annotated[
        tuple[str, ...],
        typer.Option(metavar="OLD.ko", help="Older patch that this one comes after. Repeatable."),
    ] = (),
    target: Annotated[
        tuple[str, ...],
        typer.Option(metavar="T.ko", help="Module that the patch patches. Repeatable."),
    ] = (),
    param: Annotated[
        tuple[str, ...],
        typer.Option(metavar="NAME=VALUE", help="Parameter of the patch. Repeatable."),
    ] = (),
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="SCRIPT",
            help="Runs in the guest with the argument before, during or after; ends with 0 when "
            "the kernel behaves as it should then; or a pytest file, NAME.py.",
        ),
    ] = None,
    check_timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long the script may run.")
    ] = 20.0,
    load: Annotated[
        tuple[LoadProfile, ...],
        typer.Option(
            help="Load that the patch comes and goes under. Repeatable; default: all of them."
        ),
    ] = (),
    scene: Annotated[
        tuple[str, ...],
        typer.Option(metavar="NAME", help="Play this scene only: idle, cycles... Repeatable."),
    ] = (),
    within: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="How long a transition may take on quick hardware."
        ),
    ] = 30.0,
    cycles: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often it is loaded and unloaded.")
    ] = 50,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Longer, and on a kernel with lockdep and KASAN.")
    ] = False,
    html_file: HtmlPage = None,
    *,
    kernel: KernelOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
) -> int:
    """Verify livepatches: is each safe to load, to run under load, to upgrade, to take back?"""
    check_writable(html_file)
    if not module and not source:
        raise UsageError("nothing to verify", hint="name a module, or a diff with --source")
    wanted = _Wanted(
        modules=module,
        sources=source,
        targets=target,
        replaces=replaces,
        template=VerifyRequest(
            module=Path(),
            params=_params(param),
            check=check,
            load=load,
            scenes=scene,
            thorough=thorough,
            cycles=cycles,
            within_s=within,
            check_timeout_s=check_timeout,
        ),
    )
    with Invocation("verify", files) as invocation:
        choice = prepare_accel(invocation, accel)
        page = VerdictPage(invocation, choice.describe(), html_file)
        made = prepare_kernel(invocation, kernel)
        _verify_on(invocation, choice, made, wanted, page)
        if thorough:
            debug = replace(kernel, fragments=(*kernel.fragments, _DEBUG))
            _verify_again(invocation, choice, debug, wanted, page)
    return invocation.exit_code


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What was asked for, before it is built for a kernel."""

    modules: tuple[str, ...]
    sources: tuple[Path, ...]
    targets: tuple[str, ...]
    replaces: tuple[str, ...]
    template: VerifyRequest
    """What is the same for each module; its ``module`` means nothing."""

    def requests(
        self, finder: ModuleFinder, kernel: Kernel, terminal: Terminal
    ) -> list[VerifyRequest]:
        patches, beside = _find(finder, self.modules)
        patches += [_built_from(diff, kernel, terminal) for diff in self.sources]
        check_together([read_module(path) for path in patches])
        return [
            replace(
                self.template,
                module=path,
                targets=(*_files(finder, self.targets), *beside),
                replaces=_files(finder, self.replaces),
            )
            for path in patches
        ]

    def files(self) -> list[str]:
        """Return what is named as a built file, which suits one kernel only."""
        return [
            name
            for name in (*self.modules, *self.targets, *self.replaces)
            if Path(name).expanduser().is_file()
        ]


def _verify_on(
    invocation: Invocation,
    choice: AccelChoice,
    kernel: Kernel,
    wanted: _Wanted,
    page: VerdictPage,
    *,
    on: str = "",
) -> None:
    """Verify all modules on one kernel; ``on`` tells it from another in the report."""
    terminal = invocation.terminal
    finder = ModuleFinder(terminal, kernel)
    requests = wanted.requests(finder, kernel, terminal)
    terminal.print(f"kernel       {kernel.describe()}", f"accelerator  {choice.describe()}")
    guests = guests_at_a_time(choice)
    with runs.open_session(
        choice,
        cpus=_CPUS,
        name="verify",
        # Deadlines are scaled by it: a kernel that checks itself is several times slower.
        guests=guests * _DEBUG_SLOWER if on else guests,
        keep=lambda: page.keep,
    ) as session:
        for request in requests:
            verdict = _verify_one(invocation, request, kernel, session, finder.samples, guests)
            verdict = dataclasses.replace(verdict, module=verdict.module + on)
            results = results_of(verdict)
            facts = facts_of(verdict, request.module)
            page.verdicts.append(facts)
            page.runs += [
                run.model_copy(update={"id": run.id.replace("/", f"{on}/", 1)})
                for run in verdict.runs
            ]
            invocation.results += results
            print_verdict(terminal, facts, results)
            page.write()


def _verify_one(
    invocation: Invocation,
    request: VerifyRequest,
    kernel: Kernel,
    session: Session,
    samples: Mapping[str, Path],
    guests: int,
) -> Verdict:
    """Verify one module with progress; when harness or host fail, what was found is reported."""
    known: list[Check] = []
    with invocation.terminal.progress() as progress:

        def note(check: Check) -> None:
            known.append(check)
            progress.stage(line_of(check))

        progress.stage(f"{request.module.stem}: {guests} guests at a time")
        try:
            return verify_patch(
                request,
                kernel=kernel,
                session=session,
                samples=samples,
                guests=guests,
                on_check=note,
            )
        except HarnessError:
            found = Verdict(module=request.module.stem, checks=tuple(known))
            invocation.results += results_of(found)
            raise


def _verify_again(
    invocation: Invocation,
    choice: AccelChoice,
    asked: KernelOptions,
    wanted: _Wanted,
    page: VerdictPage,
) -> None:
    """Verify on a kernel with lockdep and KASAN what can be built for it."""
    files = wanted.files()
    if files:
        why = (
            f"{Path(files[0]).name} is built for the other kernel: give the folder of its sources "
            "to have it verified with lockdep and KASAN too"
        )
        for facts in list(page.verdicts):
            invocation.results.append(
                VerifyResult(
                    id="debug-kernel",
                    outcome=CheckOutcome.NOT_RUN,
                    seconds=0.0,
                    module=facts.module,
                    code=Code.NOT_RUN.value,
                    detail=why,
                )
            )
        invocation.terminal.note(why)
        page.write()
        return
    kernel = prepare_kernel(invocation, asked)
    _verify_on(invocation, choice, kernel, wanted, page, on=f" ({_DEBUG})")


def _find(finder: ModuleFinder, named: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Return the patches to verify, and the modules of folders that they patch."""
    patches: list[Path] = []
    beside: list[Path] = []
    for text in named:
        found = list(finder.find(text))
        if Path(text).expanduser().is_dir():
            marked = [path for path in found if read_module(path).is_livepatch]
            if not marked:
                raise UsageError(f"no module built from {text} is a livepatch")
            beside += [path for path in found if path not in marked]
            found = marked
        patches += found
    return patches, beside


def _built_from(diff: Path, kernel: Kernel, terminal: Terminal) -> Path:
    """Return the module that the kernel's own tool makes of a diff."""
    with terminal.progress() as progress:
        progress.stage(f"a livepatch of {diff.name} for {kernel.version}")
        return obtain_from_patch(
            diff,
            kernel,
            store=runs.store(),
            deadline=Deadline.after(_SOURCE_S),
            progress=progress,
        )


def _files(finder: ModuleFinder, named: Sequence[str] | None) -> tuple[Path, ...]:
    return tuple(path for text in named or () for path in finder.find(text))


def _params(texts: Sequence[str] | None) -> dict[str, str]:
    params = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--param {text!r} is not of the form name=value")
        params[name] = value
    return params
