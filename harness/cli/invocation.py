# SPDX-License-Identifier: GPL-2.0-only
"""One run of a command: its clock, its terminal, its results, and their files."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import secrets
import stat
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Self

from harness import __version__
from harness.cli import streams
from harness.cli.again import absolute, words_again
from harness.cli.options import ResultFiles
from harness.cli.registry import make_report
from harness.errors import (
    ExitCode,
    HarnessError,
    KernelVerdict,
    KlpError,
    NoSpace,
    UsageError,
)
from harness.inputs import shown, user_path
from harness.report.base import (
    BaseReport,
    CheckOutcome,
    ErrorFacts,
    HostFacts,
    KernelFacts,
    Outcome,
    ResultBase,
    to_json,
)
from harness.report.junit import to_junit
from harness.report.ktap import to_ktap
from harness.report.terminal import Terminal
from harness.vm.host.accel import QEMU
from harness.vm.host.lookup import program_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

_STDOUT = "-"
_RESULTS = "the file of results"
_ONLY_THE_FILE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


class Invocation:
    """Collects the results of a command and writes its result files, also when the command fails.

    ``--json -`` keeps standard output for the JSON: everything else, pytest's output too, is
    written to standard error.
    """

    def __init__(
        self,
        command: str,
        files: ResultFiles | None = None,
        *,
        report: type[BaseReport] | None = None,
    ) -> None:
        """``report`` is the model of the command's report where the registry has none."""
        self.command = command
        self.results: list[ResultBase] = []
        self.kernels: list[Kernel] = []
        # In place of those: the kernels of a command that shows earlier results, and builds none.
        self.known_kernels: tuple[KernelFacts, ...] = ()
        self.accel: AccelChoice | None = None
        self.exit_code = ExitCode.HELD
        # Whether results are missing though no error ended the command.
        self.partial = False
        # In the words that run the command again: what it chose by chance, by parameter.
        self.chosen: dict[str, object] = {}
        self._ends: list[Callable[[bool], None]] = []
        # What this command's report has beside the results.
        self.more: dict[str, object] = {}
        self._files = files or ResultFiles()
        self._report = report
        self._stack = contextlib.ExitStack()
        self._stdout: IO[str] = sys.stdout
        self._start_s = time.monotonic()

    def __enter__(self) -> Self:
        files = self._files
        for name in (files.json, files.junit, files.ktap):
            if name is not None and name != _STDOUT:
                check_writable(Path(name))
        for option, name in (("--junit", files.junit), ("--ktap", files.ktap)):
            if name == _STDOUT:
                raise UsageError(f"{option} needs a file", hint="only --json can write to -")
        to_stderr = files.json == _STDOUT
        if to_stderr and streams.is_closed(1):
            raise UsageError(
                "standard output is closed: --json - cannot be written", hint="give --json a file"
            )
        if to_stderr:
            self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        self.terminal = Terminal(results_to_stderr=to_stderr)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if error is None and self.exit_code is ExitCode.HELD:
            self.exit_code = _exit_code(self.results)
        self.partial = self.partial or error is not None
        failed = self._finish()
        if self._files != ResultFiles():
            failed += self.write(self.report(error))
        # Who has closed the pipe (`| head`) has read what was wanted.
        if self.partial and self.results and not isinstance(error, BrokenPipeError):
            count = "1 result" if len(self.results) == 1 else f"{len(self.results)} results"
            self.terminal.note(f"partial: {count}; the command did not finish")
        if not failed:
            return
        for other in failed if error is not None else failed[1:]:
            self.terminal.error(other)
        if error is None:
            raise failed[0]
        if isinstance(error, KernelVerdict):
            # 1 would mean that there are results to read.
            self.terminal.error(error)
            raise failed[0] from error

    def at_end(self, work: Callable[[bool], None]) -> None:
        """Have a summary printed or a page written when the command ends, however it does.

        ``work`` is called with whether results are missing.
        """
        self._ends.append(work)

    def _finish(self) -> list[KlpError]:
        """Do what was left for the end; return what failed of it."""
        failed = []
        for work in self._ends:
            try:
                work(self.partial)
            except KlpError as error:
                failed.append(error)
        return failed

    def report(self, error: BaseException | None = None) -> BaseReport:
        """Return what is known so far, as the report that ``--json`` writes."""
        # As in `argv`: ./linux says nothing in another folder.
        kernels = self.known_kernels or tuple(
            kernel_facts(each).model_copy(update={"spec": absolute(each.spec)})
            for each in self.kernels
        )
        fields: dict[str, object] = {
            "command": self.command,
            "outcome": _outcome(self.exit_code, error),
            "partial": self.partial or error is not None,
            "argv": words_again(self.chosen),
            "harness": __version__,
            "host": host_facts(),
            "kernel": kernels[0] if len(kernels) == 1 else None,
            "kernels": kernels,
            "accelerator": self.accel.accel.value if self.accel is not None else None,
            "accelerator_reason": self.accel.reason if self.accel is not None else None,
            "qemu": program_version(QEMU) if self.accel is not None else None,
            "seconds": time.monotonic() - self._start_s,
            "error": error_facts(error) if error is not None else None,
            "results": tuple(self.results),
        }
        made = fields | self.more
        return make_report(**made) if self._report is None else self._report.model_validate(made)

    @property
    def facts(self) -> dict[str, str]:
        """The kernels and the accelerator of this run, in words."""
        found = {"kernel": "; ".join(kernel.describe() for kernel in self.kernels)}
        if self.accel is not None:
            found["accelerator"] = self.accel.describe()
        return found

    def print_facts(self, **more: str) -> None:
        """Print the kernels and the accelerator of this run, and further facts by their names."""
        lines = [("kernel", kernel.describe()) for kernel in self.kernels]
        if self.accel is not None:
            lines.append(("accelerator", self.accel.describe()))
        self.terminal.print(*(f"{name:12} {text}" for name, text in (*lines, *more.items())))

    def write(self, report: BaseReport) -> list[KlpError]:
        """Write the result files, each whatever becomes of the others; return what failed."""
        files, failed = self._files, []
        if files.json == _STDOUT:
            self._stdout.write(to_json(report))
            self._stdout.flush()
        for name, render in ((files.json, to_json), (files.junit, to_junit), (files.ktap, to_ktap)):
            if name is None or name == _STDOUT:
                continue
            try:
                write_file(Path(name), render(report))
            except KlpError as error:
                failed.append(error)
        return failed


def host_facts() -> HostFacts:
    """Return what this machine is."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = platform.system()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return HostFacts(
        system=system,
        kernel=platform.release(),
        cpus=len(os.sched_getaffinity(0)),
        memory_mib=pages >> 20,
        python=platform.python_version(),
    )


def kernel_facts(kernel: Kernel) -> KernelFacts:
    """Return a kernel as reports show it."""
    return KernelFacts.model_validate(kernel, from_attributes=True)


def error_facts(error: BaseException) -> ErrorFacts:
    """Return a failure as reports show it."""
    if isinstance(error, KlpError):
        return ErrorFacts(
            kind=type(error).__name__,
            fault=_fault(error),
            message=error.message,
            hint=error.hint,
            details=error.details,
            logs=str(error.artefacts) if error.artefacts is not None else None,
        )
    if isinstance(error, KeyboardInterrupt):
        return ErrorFacts(kind="Interrupted", fault="interrupted", message="interrupted")
    return ErrorFacts(kind=type(error).__name__, fault="harness", message=str(error))


def _fault(error: KlpError) -> Literal["kernel", "usage", "harness"]:
    if isinstance(error, KernelVerdict):
        return "kernel"
    return "usage" if isinstance(error, UsageError) else "harness"


def _outcome(code: ExitCode, error: BaseException | None) -> Outcome:
    if isinstance(error, KlpError):
        code = error.exit_code
    elif error is not None:
        return Outcome.ERROR
    match code:
        case ExitCode.HELD:
            return Outcome.PASSED
        case ExitCode.VERDICT:
            return Outcome.FAILED
        case _:
            return Outcome.ERROR


def _exit_code(results: Sequence[ResultBase]) -> ExitCode:
    """A verdict counts first: it holds whatever else went wrong."""
    outcomes = {result.outcome for result in results if not result.is_excused}
    if outcomes & {CheckOutcome.FAILED, CheckOutcome.SHOWN}:
        return ExitCode.VERDICT
    return ExitCode.HARNESS if CheckOutcome.ERROR in outcomes else ExitCode.HELD


def check_writable(*paths: Path | None) -> None:
    """Raise UsageError for a file that could not be written later: before the work, not after."""
    for path in paths:
        if path is None:
            continue
        user_path(path, _RESULTS)
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = None
        except (OSError, ValueError) as error:
            raise UsageError(f"{shown(path)} cannot be written to: {error}") from error
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(f"{path} is a directory; the results need a file")
        if mode is not None and stat.S_ISFIFO(mode):
            raise UsageError(f"{path} is a pipe; the results need a file")
        target = path if mode is not None else path.absolute().parent
        if not target.is_dir() and mode is None:
            raise UsageError(f"the folder {shown(target)} for {shown(path.name)} does not exist")
        if not os.access(target, os.W_OK):
            raise UsageError(f"{target} cannot be written to")


def write_file(path: Path, text: str) -> None:
    """Write a file so that no reader finds half of it. Raises NoSpace, UsageError, HarnessError.

    Where only the file itself can be written, and its folder not, it is written in place.
    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        _replace(path, data)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _replace(path: Path, data: bytes) -> None:
    # The name may be as long as names can be.
    aside = path.with_name(f".klp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        aside.write_bytes(data)
        if path.exists():
            aside.chmod(path.stat().st_mode & 0o7777)
        aside.replace(path)
    except OSError as error:
        # EBUSY: the file is a mount point, as in a container.
        if error.errno not in _ONLY_THE_FILE or not path.is_file():
            raise
        path.write_bytes(data)
    finally:
        # Also after Ctrl-C. Once it has its name, there is none.
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> KlpError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left to write {path}")
    if error.errno == errno.EIO:
        return HarnessError(f"cannot write {path}: {error.strerror}")
    return UsageError(f"cannot write {path}: {error.strerror}")
