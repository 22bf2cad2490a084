# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness verify: is a livepatch safe to load, to run under load, to upgrade, to unload?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.modules import ModuleFinder, check_named, is_folder
from harness.cli.options import Accel, AccelAsked, KernelOptions, ResultFiles
from harness.cli.pages import HtmlPage
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.tools.verify.api import guests_at_a_time, verify_case
from harness.tools.verify.case import check_script, check_together, read_case
from harness.tools.verify.from_diff.obtain import obtain_from_patch
from harness.tools.verify.page import verify_page
from harness.tools.verify.request import LoadProfile, VerifyRequest
from harness.tools.verify.results import VerdictFacts, VerifyResult, facts_of, results_of
from harness.tools.verify.scene_list import check_names
from harness.tools.verify.terminal import print_verdict
from harness.tools.verify.verdict import Check, Verdict, not_run
from harness.vm.elf.module_info import read_module
from harness.vm.guest import runs
from harness.vm.kernel.patch_file import read_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.report.run_results import RunResult
    from harness.report.terminal import Terminal
    from harness.tools.verify.case import Case
    from harness.vm.elf.module_info import ModuleInfo
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
    replaces: Annotated[
        tuple[str, ...],
        typer.Option(metavar="OLD.ko", help="Older patch to upgrade from. Repeatable."),
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
    ] = VerifyRequest.check_timeout_s,
    load: Annotated[
        tuple[LoadProfile, ...],
        typer.Option(help="Load to verify the patch under. Repeatable; default: all of them."),
    ] = (),
    scene: Annotated[
        tuple[str, ...],
        typer.Option(metavar="NAME", help="Run this scene only: idle, cycles... Repeatable."),
    ] = (),
    within: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="How long a transition may take on quick hardware."
        ),
    ] = VerifyRequest.within_s,
    cycles: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often it is loaded and unloaded.")
    ] = VerifyRequest.cycles,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Longer, and on a kernel with lockdep and KASAN.")
    ] = False,
    html_file: HtmlPage = None,
    *,
    kernel: KernelOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
) -> int:
    """Verify livepatches: is each safe to load, to run under load, to upgrade, to unload?"""
    check_writable(html_file)
    if not module and not source:
        raise UsageError("nothing to verify", hint="name a module, or a diff with --source")
    asked = _Asked(
        modules=module,
        sources=source,
        targets=target,
        replaces=replaces,
        request=partial(
            VerifyRequest,
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
        check_names(scene)
        check_kernels(kernel)
        check_named((*module, *target, *replaces))
        for diff in source:
            read_patch(diff)
        if check is not None:
            check_script(check)
        choice = prepare_accel(invocation, accel)
        report = _Report(invocation, html_file)
        made = prepare_kernel(invocation, kernel)
        _verify_on(invocation, choice, made, asked, report)
        if thorough and (built := asked.built_files()):
            report.add_no_debug(built[0])
        elif thorough:
            debug = replace(kernel, fragments=(*kernel.fragments, _DEBUG))
            made = prepare_kernel(invocation, debug)
            _verify_on(invocation, choice, made, asked, report, debug=True)
    return invocation.exit_code


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The command line: names of modules, and a request that lacks its files."""

    modules: tuple[str, ...]
    sources: tuple[Path, ...]
    targets: tuple[str, ...]
    replaces: tuple[str, ...]
    request: partial[VerifyRequest]

    def cases(self, finder: ModuleFinder, kernel: Kernel, terminal: Terminal) -> list[Case]:
        """Build or find all files for a kernel, and read them; raises UsageError."""
        read = cache(read_module)
        patches, beside = _find(finder, self.modules, read)
        patches += [_built_from(diff, kernel, terminal) for diff in self.sources]
        check_together([read(path) for path in patches])
        targets = (*_files(finder, self.targets), *beside)
        replaces = _files(finder, self.replaces)
        requests = [
            self.request(module=path, targets=targets, replaces=replaces) for path in patches
        ]
        return [read_case(each, kernel, finder.samples, read=read) for each in requests]

    def built_files(self) -> list[Path]:
        """Return what is named as a built file, which suits one kernel only."""
        names = (*self.modules, *self.targets, *self.replaces)
        return [path for name in names if (path := Path(name).expanduser()).is_file()]


class _Report:
    """What the command writes: results, verdicts, timelines; and the page, after each module."""

    def __init__(self, invocation: Invocation, page: Path | None) -> None:
        self.verdicts: list[VerdictFacts] = []
        self._runs: list[RunResult] = []
        self._invocation = invocation
        self._page = page
        invocation.more |= {"verdicts": self.verdicts, "runs": self._runs}
        invocation.at_end(lambda partial: self._write_page(partial=partial))

    @property
    def keep_logs(self) -> bool:
        """Whether a verdict makes the guests' logs worth keeping."""
        return any(facts.outcome != CheckOutcome.PASSED for facts in self.verdicts)

    def add(self, verdict: Verdict, path: Path) -> None:
        """Report a verdict on the module in that file."""
        results, facts = results_of(verdict), facts_of(verdict, path)
        self.verdicts.append(facts)
        self._runs += verdict.runs
        self._invocation.results += results
        print_verdict(self._invocation.terminal, facts, results)
        self._write_page()

    def add_no_debug(self, built: Path) -> None:
        """Report that a module cannot be verified on the debug kernel, because of a built file."""
        why = (
            f"{built.name} is built for the other kernel: give the folder of its sources "
            "to have it verified with lockdep and KASAN too"
        )
        for facts in self.verdicts:
            checks = (not_run("debug-kernel", why),)
            self._invocation.results += results_of(Verdict(module=facts.module, checks=checks))
        self._invocation.terminal.note(why)
        self._write_page()

    def _write_page(self, *, partial: bool = True) -> None:
        if self._page is None:
            return
        results = [each for each in self._invocation.results if isinstance(each, VerifyResult)]
        facts = self._invocation.facts
        text = verify_page(
            self.verdicts,
            results,
            self._runs,
            kernel=facts["kernel"],
            accelerator=facts["accelerator"],
            partial=partial,
        )
        write_file(self._page, text)


def _verify_on(
    invocation: Invocation,
    choice: AccelChoice,
    kernel: Kernel,
    asked: _Asked,
    report: _Report,
    *,
    debug: bool = False,
) -> None:
    """Verify all modules on one kernel."""
    terminal = invocation.terminal
    cases = asked.cases(ModuleFinder(terminal, kernel), kernel, terminal)
    terminal.print(f"kernel       {kernel.describe()}", f"accelerator  {choice.describe()}")
    guests = guests_at_a_time(choice)
    with runs.open_session(
        choice,
        cpus=_CPUS,
        name="verify",
        # Deadlines are scaled by it: a kernel that checks itself is several times slower.
        guests=guests * _DEBUG_SLOWER if debug else guests,
        keep=lambda: report.keep_logs,
    ) as session:
        for case in cases:
            verdict = _verify_one(invocation, case, session, guests)
            report.add(_on_debug(verdict) if debug else verdict, case.request.module)


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


def _find(
    finder: ModuleFinder, named: Sequence[str], read: Callable[[Path], ModuleInfo]
) -> tuple[list[Path], list[Path]]:
    """Return the patches to verify, and the modules of folders that they patch."""
    patches: list[Path] = []
    beside: list[Path] = []
    for text in named:
        found = list(finder.find(text))
        if is_folder(text):
            livepatches = [path for path in found if read(path).is_livepatch]
            if not livepatches:
                raise UsageError(f"no module built from {text} is a livepatch")
            beside += [path for path in found if path not in livepatches]
            found = livepatches
        patches += found
    return patches, beside


def _built_from(diff: Path, kernel: Kernel, terminal: Terminal) -> Path:
    """Return the module that klp-build or kpatch-build makes of a diff."""
    with terminal.progress() as progress:
        progress.stage(f"a livepatch of {diff.name} for {kernel.version}")
        return obtain_from_patch(
            diff,
            kernel,
            store=runs.store(),
            deadline=Deadline.after(_SOURCE_S),
            progress=progress,
        )


def _files(finder: ModuleFinder, named: Sequence[str]) -> tuple[Path, ...]:
    return tuple(path for text in named for path in finder.find(text))


def _params(texts: Sequence[str]) -> dict[str, str]:
    params = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--param {text!r} is not of the form name=value")
        params[name] = value
    return params
