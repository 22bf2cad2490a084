# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness verify: the regression battery for a patch module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.modules import ModuleFinder
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
)
from harness.cli.prepare import (
    KernelAsked,
    describe_accel,
    prepare_accel,
    prepare_kernel,
    run_session,
)
from harness.errors import UsageError
from harness.guest.session import Fresh
from harness.kernel.elf import read_module
from harness.report.base import CheckOutcome
from harness.report.verify import VerdictFacts, VerifyResult
from harness.report.verify_page import verify_page
from harness.report.verify_story import tell_verdict
from harness.verify import (
    Check,
    CheckResult,
    LoadProfile,
    Verdict,
    VerifyRequest,
    guests_at_a_time,
    verify_patch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.results import RunResult

_CPUS = 2


@guarded
def verify(
    module: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE", help="A .ko file, the name of a sample, or a folder of sources."
        ),
    ],
    replaces: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD.ko", help="Older patch that this one comes after. Repeatable."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="T.ko", help="Module that the patch patches. Repeatable."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Parameter of the patch. Repeatable."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="SCRIPT",
            help="Runs in the guest with the argument before, during or after; ends with 0 when "
            "the kernel behaves as it should then.",
        ),
    ] = None,
    check_timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long the script may run.")
    ] = 20.0,
    load: Annotated[
        list[LoadProfile] | None,
        typer.Option(
            help="Load that the patch comes and goes under. Repeatable; default: all of them."
        ),
    ] = None,
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
    kernel: KernelSpec = DEFAULT_KERNEL,
    kernel_config: KernelConfig = None,
    patch: KernelPatches = None,
    sha256: Sha256 = None,
    accel: AccelOption = AccelAsked.AUTO,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the results as an HTML page."),
    ] = None,
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
) -> int:
    """Verify livepatches: is each safe to load, to run under load, to upgrade, to take back?"""
    if html_file is not None and not html_file.parent.is_dir():
        raise UsageError(f"the folder {html_file.parent} for {html_file.name} does not exist")
    with Invocation("verify", json_file=json_file, junit_file=junit_file) as invocation:
        terminal = invocation.terminal
        choice = prepare_accel(invocation, accel)
        asked = KernelAsked(
            spec=kernel, sha256=sha256, fragments=tuple(kernel_config or ()), patches=patch or ()
        )
        made = prepare_kernel(invocation, asked)
        finder = ModuleFinder(terminal, made)
        patches, beside = _find(finder, module)
        requests = [
            VerifyRequest(
                module=path,
                targets=(*_files(finder, target), *beside),
                replaces=_files(finder, replaces),
                params=_params(param),
                check=check,
                load=tuple(load or ()),
                thorough=thorough,
                cycles=cycles,
                within_s=within,
                check_timeout_s=check_timeout,
            )
            for path in patches
        ]
        terminal.print(f"kernel       {made.describe()}", f"accelerator  {describe_accel(choice)}")
        guests = guests_at_a_time(choice)
        verdicts: list[VerdictFacts] = []
        runs: list[RunResult] = []
        invocation.more |= {"verdicts": verdicts, "runs": runs}
        with run_session(
            choice,
            cpus=_CPUS,
            fresh=Fresh.SNAPSHOT,
            name="verify",
            guests=guests,
            keep=lambda: any(facts.outcome != "passed" for facts in verdicts),
        ) as session:
            for request in requests:
                with terminal.progress() as progress:
                    progress.stage(f"{request.module.stem}: {guests} guests at a time")
                    verdict = verify_patch(
                        request,
                        kernel=made,
                        session=session,
                        samples=finder.samples,
                        guests=guests,
                        on_check=lambda check: progress.stage(_line(check)),
                    )
                results = results_of(verdict)
                facts = _facts(verdict, request.module)
                verdicts.append(facts)
                runs += verdict.runs
                invocation.results += results
                tell_verdict(terminal, facts, results)
                if html_file is not None:
                    page = verify_page(
                        verdicts,
                        [each for each in invocation.results if isinstance(each, VerifyResult)],
                        runs,
                        kernel=made.describe(),
                        accelerator=describe_accel(choice),
                    )
                    _write(html_file, page)
    return invocation.exit_code


def results_of(verdict: Verdict) -> list[VerifyResult]:
    """Return a verdict's checks as reports show them."""
    return [
        VerifyResult(
            id=check.id,
            outcome=CheckOutcome(check.outcome.value),
            seconds=check.seconds,
            module=verdict.module,
            code=check.code.value,
            detail=check.detail,
            advice=check.advice,
            lines=check.lines,
            evidence=tuple(str(path) for path in check.evidence),
        )
        for check in verdict.checks
    ]


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _facts(verdict: Verdict, path: Path) -> VerdictFacts:
    return VerdictFacts(
        module=verdict.module,
        outcome=verdict.outcome.value,
        path=str(path),
        codes=tuple(sorted(verdict.codes)),
        seconds=verdict.seconds,
    )


def _line(check: Check) -> str:
    said = check.outcome.value
    return f"{check.id}: {said}" + (
        f" [{check.code}] {check.detail}" if check.outcome is CheckResult.FAILED else ""
    )


def _find(finder: ModuleFinder, named: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Return the patches to verify, and the modules of folders that they patch."""
    patches: list[Path] = []
    beside: list[Path] = []
    for text in named:
        found = [each.path for each in finder.find(text)]
        if Path(text).expanduser().is_dir():
            marked = [path for path in found if read_module(path).is_livepatch]
            if not marked:
                raise UsageError(f"no module built from {text} is a livepatch")
            beside += [path for path in found if path not in marked]
            found = marked
        patches += found
    names = [path.stem for path in patches]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{twice[0]} is named twice: modules of one name conflict")
    return patches, beside


def _files(finder: ModuleFinder, named: Sequence[str] | None) -> tuple[Path, ...]:
    return tuple(each.path for text in named or () for each in finder.find(text))


def _params(texts: Sequence[str] | None) -> dict[str, str]:
    params = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--param {text!r} is not of the form name=value")
        params[name] = value
    return params
