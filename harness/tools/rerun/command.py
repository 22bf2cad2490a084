# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness rerun: run again what a result says, on the same kernel."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from harness import __version__
from harness.cli.app import app
from harness.cli.exits import guarded
from harness.cli.options import ResultFiles
from harness.cli.pins import find, pinned
from harness.cli.registry import COMMANDS, read_report
from harness.errors import UsageError
from harness.report.terminal import Terminal
from harness.vm.guest import runs
from harness.vm.host.accel import QEMU
from harness.vm.host.lookup import program_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.report.base import BaseReport

# It removes what that run removed, and more: what has come since.
_NOT_AGAIN = ("kernel prune",)


@guarded
def rerun(
    result: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT.json", help="What --json of a command wrote.", show_default=False
        ),
    ],
    any_kernel: Annotated[
        bool,
        typer.Option(
            "--any-kernel", help="Take what the kernel's spec names now, if it is another kernel."
        ),
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the command, and do not run it.")
    ] = False,
    *,
    files: ResultFiles,
) -> int:
    """Run again what a result says: the same command, kernel, patches, tests and seed.

    The exit code is that of the command. What cannot be the same is said before it runs.
    """
    report = read_result(result)
    words = words_of(report, result)
    # What is not the result goes to standard error: --json - has the other to itself.
    terminal = Terminal(results_to_stderr=not show)
    terminal.print(f"again: klp-harness {shlex.join(words)}")
    for difference in differences(report):
        terminal.note(difference)
    if show:
        return 0
    outputs = {"json": files.json, "junit": files.junit, "ktap": files.ktap}
    more = [f"--{name}={value}" for name, value in outputs.items() if value is not None]
    kernels = contextlib.nullcontext() if any_kernel else pinned(report.kernels)
    with kernels:
        code = app([*words, *more], prog_name="klp-harness", standalone_mode=False)
    return int(code or 0)


def read_result(path: Path) -> BaseReport:
    """Return the report in a file; raises UsageError when it is none."""
    try:
        return read_report(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValidationError, KeyError, ValueError, ImportError) as error:
        raise UsageError(
            f"{path} is no result of klp-harness", hint="it is what --json FILE wrote"
        ) from error


def words_of(report: BaseReport, path: Path) -> tuple[str, ...]:
    """Return the words of the command that wrote a report.

    Raises UsageError when it does not have them, or a file that they name is not there any more.
    """
    words = report.argv
    if not words:
        raise UsageError(
            f"{path} does not say how it was made",
            hint="results of klp-harness 0.2.0 and before have no `argv`",
        )
    if words[0] not in COMMANDS or words[0] == "rerun" or report.command in _NOT_AGAIN:
        raise UsageError(f"{report.command} is not run again", hint="run it by hand")
    gone = [each for each in map(_file_of, words) if each is not None and not each.exists()]
    if gone:
        raise UsageError(f"what that run used is not there any more: {gone[0]}")
    return words


def differences(report: BaseReport) -> Iterator[str]:
    """Yield in sentences what cannot be as it was when a report was written."""
    if report.partial:
        yield "that run did not finish; this one starts from the beginning"
    if report.harness != __version__:
        yield f"that was klp-harness {report.harness}, and this is {__version__}"
    qemu = program_version(QEMU)
    if report.qemu is not None and report.qemu != qemu:
        yield f"that was QEMU {report.qemu}, and this is {qemu or 'none'}"
    yield from _missing(report)


def _missing(report: BaseReport) -> Iterator[str]:
    for facts in report.kernels:
        if find(facts, runs.store()) is None:
            yield (
                f"the kernel {facts.version} ({facts.digest[:12]}) is not in the cache: "
                f"it is made from {facts.spec}"
            )


def _file_of(word: str) -> Path | None:
    """Return the file that a word names by an absolute path, if it does."""
    _, equals, value = word.partition("=") if word.startswith("-") else ("", "=", word)
    path = value.partition("::")[0]
    return Path(path) if equals and path.startswith("/") else None
