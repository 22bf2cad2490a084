# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness doctor: what this machine can do, which accelerator and why, what it lacks."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from harness import __version__
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import Accel, AccelAsked, ResultFiles
from harness.deadline import Deadline
from harness.errors import ExitCode, UsageError
from harness.report.base import CheckOutcome
from harness.resources import cache_root
from harness.tools.doctor.examine import examine

if TYPE_CHECKING:
    from harness.report.terminal import Terminal
    from harness.tools.doctor.examine import Examined
    from harness.tools.doctor.results import DoctorResult

_PATIENCE_S = 120.0
_KERNEL_S = 1800.0
_WORDS = {
    CheckOutcome.PASSED: ("ok", "green"),
    CheckOutcome.WARNED: ("note", "yellow"),
    CheckOutcome.FAILED: ("MISSING", "bold red"),
}
_WORD_WIDTH = 8
_NAME_WIDTH = 24


@guarded
def doctor(
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            metavar="SPEC",
            help="Finished kernel to look at as well: installed, /boot/vmlinuz-X, deb:, rpm:, "
            "build:DIR.",
        ),
    ] = None,
) -> int:
    """Check what this machine has for the harness; say what it lacks, and how to get it.

    Exit code 3 when something is missing that a run needs.
    """
    if kernel is not None:
        _require_finished_spec(kernel)
    with Invocation("doctor", files) as invocation:
        invocation.terminal.note("looking at this machine; an accelerator is tried by running it")
        examined = examine(Deadline.after(_PATIENCE_S), requested_accel=accel.value)
        if kernel is not None:
            parts = _examine_kernel(invocation.terminal, kernel)
            examined = replace(examined, results=(*examined.results, *parts))
        invocation.accel = examined.accel
        invocation.results += examined.results
        _print(invocation.terminal, examined)
        if not examined.is_ready:
            invocation.exit_code = ExitCode.HARNESS
    return invocation.exit_code


def _require_finished_spec(spec: str) -> None:
    from harness.tools.doctor.kernel_parts import require_finished_spec

    require_finished_spec(spec)


def _examine_kernel(terminal: Terminal, spec: str) -> tuple[DoctorResult, ...]:
    # What it takes is not imported for a look at the machine alone.
    from harness.tools.doctor.kernel_parts import examine_kernel
    from harness.vm.guest import runs

    with terminal.progress() as progress:
        deadline = Deadline.after(_KERNEL_S)
        return examine_kernel(spec, store=runs.store(), deadline=deadline, progress=progress)


def _print(terminal: Terminal, examined: Examined) -> None:
    terminal.print(
        f"klp-harness {__version__} on {examined.distribution.name}, kernel {platform.release()}"
    )
    for result in examined.results:
        word, style = _WORDS[result.outcome]
        line = Text(f"{word:{_WORD_WIDTH}}", style=style)
        line.append(f"{result.id:{_NAME_WIDTH}} {result.detail}", style="default")
        terminal.print(line)
        if result.hint is not None:
            terminal.print(f"{'':{_WORD_WIDTH + _NAME_WIDTH}} {result.hint}")
    with contextlib.suppress(UsageError):  # a line above says so
        cache = cache_root()
        terminal.print(f"cache: {cache}")
    if not examined.is_ready:
        terminal.print("not ready: get what the lines marked MISSING name")
    elif examined.guests is not None and examined.accel is not None:
        plural = "guest" if examined.guests == 1 else "guests"
        terminal.print(
            f"ready: {examined.guests} {plural} at a time with {examined.accel.accel.value}; "
            "`klp-harness demo` shows a livepatch at work"
        )
