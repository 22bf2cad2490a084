# SPDX-License-Identifier: GPL-2.0-only
"""make grade: break correct livepatches in their files, and see which checks fail."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.module_mutation.judge import Place, judge, make_mutants, not_applicable, not_run
from benchmarks.module_mutation.operators import choose
from benchmarks.module_mutation.results import ModuleMutantReport, ModuleMutantResult
from benchmarks.module_mutation.subjects import SOURCES, Subject, read_manifest, subjects_of
from benchmarks.module_mutation.terminal import (
    print_inapplicable,
    print_module_mutant,
    print_module_summary,
)
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.modules import ModuleFinder
from harness.cli.options import Accel, AccelAsked, CleanKernel, Guests, ResultFiles
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules
from harness.errors import ExitCode, UsageError
from harness.report.base import CheckOutcome
from harness.tools.verify import VerifyRequest, guests_at_a_time
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.module_mutation.judge import Batch
    from benchmarks.module_mutation.operators import Operator
    from harness.report.terminal import Terminal
    from harness.vm.kernel.kernel import Kernel

_CPUS = 2


@guarded
def grade(
    kinds: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="[KIND]...", help="Kinds of mutants; default: all.", show_default=""
        ),
    ] = (),
    module: Annotated[
        tuple[str, ...],
        typer.Option(
            metavar="MODULE",
            help="A correct livepatch: a .ko file, a folder of sources, or one of those that "
            "mutants are made of by default. Repeatable.",
        ),
    ] = (),
    target: Annotated[
        tuple[str, ...],
        typer.Option(metavar="T.ko", help="Module that the livepatch patches. Repeatable."),
    ] = (),
    replaces: Annotated[
        tuple[str, ...],
        typer.Option(metavar="OLD.ko", help="Older patch that it replaces. Repeatable."),
    ] = (),
    check: Annotated[
        Path | None,
        typer.Option(metavar="SCRIPT", help="Check script or pytest file, as for verify."),
    ] = None,
    no_check: Annotated[
        bool,
        typer.Option("--no-check", help="Use no check script: do the other checks fail?"),
    ] = False,
    scene: Annotated[
        tuple[str, ...],
        typer.Option(
            metavar="NAME",
            help="Scenes of verify to run; default: those in which a check has to fail. "
            "Repeatable.",
        ),
    ] = (),
    only_list: Annotated[
        bool, typer.Option("--list", help="Print the mutants and start no guest.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep the mutated modules in this new folder."),
    ] = None,
    *,
    kernel: CleanKernel,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    guests: Guests = None,
) -> int:
    """Break correct livepatches and report which checks of verify fail, for its developers.

    The mutated modules still load. Exit code 0: all were caught or warned of; 1: one survived; 2:
    one does not load.
    """
    operators = choose(kinds)
    wanted = _Wanted(
        modules=module,
        targets=target,
        replaces=replaces,
        check=check,
        no_check=no_check,
        scenes=scene,
    )
    wanted.refuse_contradictions()
    with (
        Invocation("grade", files, report=ModuleMutantReport) as invocation,
        ExitStack() as stack,
    ):
        terminal = invocation.terminal
        choice = None if only_list else prepare_accel(invocation, accel)
        made = prepare_kernel(invocation, kernel)
        scratch = _scratch(folder, stack)
        known = {
            **prepare_modules(terminal, made, SOURCES),
            **prepare_modules(terminal, made),
        }
        batches = [
            make_mutants(subject, operators, kernel=made, samples=known, folder=scratch)
            for subject in wanted.subjects(terminal, made, known, scratch)
        ]
        invocation.results += [each for batch in batches for each in not_applicable(batch)]
        _check_some(batches, operators)
        invocation.print_facts()
        if choice is None:
            for batch in batches:
                for mutant in batch.mutants:
                    invocation.results.append(not_run(mutant))
                    print_module_mutant(terminal, not_run(mutant))
            print_inapplicable(terminal, [r for b in batches for r in not_applicable(b)])
            return ExitCode.HELD
        count = guests or guests_at_a_time(choice)
        results: list[ModuleMutantResult] = []
        session = stack.enter_context(
            runs.open_session(
                choice,
                cpus=_CPUS,
                name="module-mutants",
                guests=count,
                keep=lambda: any(r.outcome is CheckOutcome.ERROR for r in results),
            )
        )
        place = Place(kernel=made, session=session, samples=known, guests=count)

        def print_clean(request: VerifyRequest, trouble: str | None) -> None:
            name = request.module.stem
            terminal.note(f"{name}: {trouble}" if trouble else f"{name}: the clean module passes")

        try:
            for result in judge(batches, place, on_clean=print_clean):
                results.append(result)
                print_module_mutant(terminal, result)
        finally:
            invocation.results += results
            print_inapplicable(terminal, [r for b in batches for r in not_applicable(b)])
            print_module_summary(terminal, results)
        invocation.exit_code = _exit_code(results)
    return invocation.exit_code


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The command line's choice of modules."""

    modules: tuple[str, ...]
    targets: tuple[str, ...]
    replaces: tuple[str, ...]
    check: Path | None
    no_check: bool
    scenes: tuple[str, ...]

    def refuse_contradictions(self) -> None:
        """Raise UsageError for options that contradict each other."""
        if (self.targets or self.replaces or self.check) and not self.modules:
            raise UsageError(
                "--target, --replaces and --check need a module of yours",
                hint="name it with --module",
            )
        if self.check is not None and self.no_check:
            raise UsageError("--check and --no-check contradict each other")

    def subjects(
        self, terminal: Terminal, kernel: Kernel, known: Mapping[str, Path], scratch: Path
    ) -> list[Subject]:
        """Return the clean modules with the request for `verify` of each."""
        manifest = read_manifest()
        finder = ModuleFinder(terminal, kernel)
        default = [name for name in self.modules if name in manifest]
        own = [name for name in self.modules if name not in manifest]
        found = [Subject(request=VerifyRequest(module=path)) for path in _files(finder, own)]
        if default or not own:
            found += subjects_of(default, known, scratch)
        targets, replaces = _files(finder, self.targets), _files(finder, self.replaces)
        return [
            replace(each, request=self._request(each.request, targets, replaces)) for each in found
        ]

    def _request(
        self, request: VerifyRequest, targets: tuple[Path, ...], older: tuple[Path, ...]
    ) -> VerifyRequest:
        return replace(
            request,
            targets=targets or request.targets,
            replaces=older or request.replaces,
            check=None if self.no_check else self.check or request.check,
            scenes=self.scenes,
        )


def _files(finder: ModuleFinder, names: Sequence[str]) -> tuple[Path, ...]:
    return tuple(path for text in names for path in finder.find(text))


def _scratch(folder: Path | None, stack: ExitStack) -> Path:
    """Return the folder for mutated modules, which is removed at the end without ``folder``."""
    if folder is None:
        path = Path(tempfile.mkdtemp(prefix="klp-mutants-"))
        stack.callback(shutil.rmtree, path, ignore_errors=True)
        return path
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be created: {error.strerror}") from error
    return folder


def _check_some(batches: Sequence[Batch], operators: Sequence[Operator]) -> None:
    """Raise UsageError when no module has a mutant of these kinds."""
    if not any(batch.mutants for batch in batches):
        raise UsageError(
            "no module has a mutant of these kinds",
            details=tuple(f"{each.name} needs {each.needs}" for each in operators),
        )


def _exit_code(results: Sequence[ModuleMutantResult]) -> ExitCode:
    outcomes = {result.outcome for result in results}
    if any(result.is_news for result in results):
        return ExitCode.VERDICT
    if CheckOutcome.DOES_NOT_LOAD in outcomes:
        return ExitCode.USAGE
    return ExitCode.HARNESS if CheckOutcome.ERROR in outcomes else ExitCode.HELD
