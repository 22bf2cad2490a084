# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness mutants sweep --module: how good is the check of a livepatch?"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.modules import ModuleFinder, check_named, is_folder
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.resources import runs_root
from harness.threads import run_jobs
from harness.tools.mutants.module_sweep.building import ModuleSource
from harness.tools.mutants.module_sweep.judging import DoesNotBuild, Judge, warnings_of
from harness.tools.mutants.sweep.explained import match, read_explained
from harness.tools.mutants.sweep.kept import KeptResults
from harness.tools.mutants.sweep.parse import candidates, parser, unread_lines
from harness.tools.mutants.sweep.results import LeftOutMutant, SweepResult
from harness.tools.mutants.sweep.terminal import print_left_out, print_result
from harness.tools.verify.request import VerifyRequest
from harness.vm.guest import runs
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.cli.invocation import Invocation
    from harness.cli.options import AccelAsked, KernelOptions
    from harness.tools.mutants.module_sweep.building import Built
    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.tools.mutants.sweep.choose import Choice
    from harness.tools.verify.options import RequestOptions
    from harness.vm.kernel.kernel import Kernel

_RUN_S = 48 * 3600.0
_CLEAN = "clean"


@dataclass(frozen=True, kw_only=True)
class ModuleSweep:
    """What is asked for: a folder with a livepatch's sources, and how each mutant is verified.

    ``explained`` is a file of what is known of mutants. ``guests``, ``results`` and ``anew`` are as
    for a sweep of the kernel.
    """

    source: Path
    kernel: KernelOptions
    options: RequestOptions
    choice: Choice
    accel: AccelAsked
    guests: int | None
    results: Path | None
    anew: bool
    explained: Path | None

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a kernel is built. Raises UsageError."""
        named = str(self.source)
        check_named((named,))
        if not is_folder(named):
            raise UsageError(
                "--module takes a folder of sources: a module's file cannot be mutated",
                hint="name the folder with its Kbuild file",
            )
        self.options.settings()
        self.options.refuse_unusable()
        check_kernels(self.kernel)
        parser()


def run_module_sweep(
    invocation: Invocation,
    asked: ModuleSweep,
    *,
    at_end: Callable[[Mapping[str, bytes], str], None],
) -> None:
    """Verify each mutant of a livepatch; the results are the invocation's.

    ``at_end`` is called with the sources and what was swept as soon as both are known. Raises
    UsageError for a livepatch that does not pass as it is, and what a build and guests raise.
    """
    asked.check()
    terminal = invocation.terminal
    known = () if asked.explained is None else read_explained(asked.explained)
    accel = prepare_accel(invocation, asked.accel.value)
    kernel = prepare_kernel(invocation, asked.kernel)
    most = asked.guests or runs.guests_at_a_time(accel)
    finder = ModuleFinder(terminal, kernel)
    with temporary_folder("module") as folder:
        source = ModuleSource(
            source=asked.source.expanduser().absolute(),
            kernel=kernel,
            folder=folder,
            deadline=Deadline.after(_RUN_S),
        )
        with terminal.progress() as progress:
            progress.stage(f"building {asked.source.name}")
            clean = source.build(_CLEAN)
        sources = {name: (source.source / name).read_bytes() for name in clean.objects}
        found = candidates(sources, tables=True)
        chosen, of_all = asked.choice.of(found, invocation)
        unread = {name: unread_lines(text, parser()) for name, text in sources.items()}
        request = _request(asked.options, clean, finder)
        names = {mutant.name for mutant in chosen}
        explanations = match(found, sources, known)
        key = _key(kernel, sources, clean, request)
        with (
            KeptResults(_folder(asked.results, source.source), lambda _: key) as kept,
            runs.open_session(accel, name="sweep", guests=most) as session,
        ):
            judge = Judge(
                source=source,
                request=request,
                kernel=kernel,
                session=session,
                samples=finder.samples,
                clean=clean,
                known=explanations,
                sources=sources,
            ).with_scenes()
            invocation.print_facts(
                livepatch=clean.livepatch.stem,
                mutants=of_all,
                scenes=", ".join(judge.scenes),
                guests=f"{most} at a time",
            )
            invocation.more |= {
                "mutants": len(found),
                "module": clean.livepatch.stem,
                "scenes": judge.scenes,
                "unread": {name: lines for name, lines in unread.items() if lines},
            }
            at_end(sources, f"{clean.livepatch.stem} on {kernel.describe()}")
            results = {} if asked.anew else kept.take_up(names, explanations)
            kept.begin(names, results)
            invocation.more["kept"] = len(results)
            if results:
                terminal.note(f"{len(results)} results of an interrupted sweep are kept")
            invocation.results += [kept.with_before(each) for each in results.values()]
            with terminal.progress() as progress:
                progress.stage("the livepatch as it is")
                judge = _verified(judge, most)
            left = [mutant for mutant in chosen if mutant.name not in results]
            left_out: list[LeftOutMutant] = []
            for result in run_jobs(
                left, lambda mutant: _judged(judge, mutant), at_a_time=most, name="mutants"
            ):
                if isinstance(result, LeftOutMutant):
                    left_out.append(result)
                    invocation.more["left_out"] = tuple(left_out)
                    continue
                kept.add(result)
                invocation.results.append(kept.with_before(result))
                print_result(terminal, result, unit="scenes")
            kept.finish()
            print_left_out(terminal, left_out, unread)


def _judged(judge: Judge, mutant: Candidate) -> SweepResult | LeftOutMutant:
    try:
        return judge.judge(mutant)
    except DoesNotBuild as error:
        return LeftOutMutant(name=mutant.name, why=str(error))


def _verified(judge: Judge, guests: int) -> Judge:
    """Return the judge that knows of what verify warns without a mutant. Raises UsageError."""
    verdicts = run_jobs(judge.scenes, judge.verify_clean, at_a_time=guests, name="clean")
    warned = frozenset(each for verdict in verdicts for each in warnings_of(verdict))
    return replace(judge, warned=warned)


def _request(options: RequestOptions, clean: Built, finder: ModuleFinder) -> VerifyRequest:
    targets = tuple(path for name in options.target for path in finder.find(name))
    return VerifyRequest(
        module=clean.livepatch,
        targets=(*targets, *clean.beside),
        replaces=tuple(path for name in options.replaces for path in finder.find(name)),
        check=options.check,
        **options.settings(),
    )


def _folder(named: Path | None, source: Path) -> Path:
    if named is not None:
        return named.absolute()
    digest = hashlib.sha256(str(source).encode()).hexdigest()
    return runs_root() / "sweeps" / f"{source.name}-{digest[:12]}"


def _key(kernel: Kernel, sources: Mapping[str, bytes], clean: Built, request: VerifyRequest) -> str:
    """Return a digest of all that the outcomes depend on."""
    files = [*request.replaces, *([request.check] if request.check is not None else [])]
    parts = [
        kernel.digest,
        {name: hashlib.sha256(text).hexdigest() for name, text in sources.items()},
        dict(clean.objects),
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in (*files, *request.targets)],
        repr(replace(request, module=Path(), targets=(), replaces=(), check=None)),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


_NONE: dict[str, tuple[()] | None] = {"targets": (), "replaces": (), "check": None}
