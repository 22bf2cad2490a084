# SPDX-License-Identifier: GPL-2.0-only
"""How every command ends: errors become sentences and exit codes, signals leave nothing behind."""

from __future__ import annotations

import functools
import os
import platform
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from harness import __version__
from harness.cli.host_errors import as_host_failure
from harness.cli.option_groups import with_option_groups
from harness.errors import ExitCode, KlpError
from harness.report.terminal import Terminal
from harness.resources import runs_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

EXIT_CODE = "klp_exit_code"
"""An attribute by which an unforeseen exception ends the process with a code of its own."""


class Terminated(KeyboardInterrupt):
    """SIGTERM. Unwinds as Ctrl-C does, so that guests and builds end with their contexts."""


def take_signals() -> None:
    """Make SIGTERM unwind the stack as SIGINT does."""
    signal.signal(signal.SIGTERM, _terminate)


def interrupted(interrupt: KeyboardInterrupt) -> int:
    """Say in one line that a signal ended the command, and return its exit code.

    130 for Ctrl-C; 143 for SIGTERM, as a shell reports it. A command that is on its way out is not
    interrupted again.
    """
    terminated = isinstance(interrupt, Terminated)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stderr.write("klp-harness: terminated\n" if terminated else "\nklp-harness: interrupted\n")
    sys.stderr.flush()
    return 128 + signal.SIGTERM if terminated else ExitCode.INTERRUPTED


def guarded(command: Callable[..., int]) -> Callable[..., None]:
    """Wrap a command for typer: its exit code, or that of what it raises, ends the process.

    A KlpError is printed as sentences, and so is what the host refuses (a full disk, no rights, no
    more processes). Anything else is a bug of ours: one sentence says so and names the file with
    the traceback.
    """

    grouped = with_option_groups(command)

    @functools.wraps(grouped)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            code = grouped(*args, **kwargs)
        except KlpError as error:
            Terminal().error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(interrupted(interrupt)) from None
        except BrokenPipeError:
            _end_quietly()
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if _is_usage(error):
                raise
            refused = as_host_failure(error) if isinstance(error, OSError) else None
            if refused is not None:
                Terminal().error(refused)
                raise typer.Exit(getattr(error, EXIT_CODE, refused.exit_code)) from None
            _report_bug(error)
            raise typer.Exit(getattr(error, EXIT_CODE, ExitCode.HARNESS)) from None
        raise typer.Exit(code)

    return wrapper


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    # Once is enough: a second one would end the tidying up that the first one began.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _is_usage(error: Exception) -> bool:
    # typer.BadParameter and its kin: typer itself prints them and exits with 2.
    return isinstance(error, typer.BadParameter.__mro__[1])


def _end_quietly() -> NoReturn:
    """End as a program does whose reader went away (`| head`), before Python flushes again."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    raise typer.Exit(128 + signal.SIGPIPE)


def _report_bug(error: Exception) -> None:
    text = "".join(traceback.format_exception(error))
    sentence = f"this is a bug in klp-harness: {type(error).__name__}: {error}".splitlines()[0]
    try:
        where = f"the traceback is in {_write_log(text)}; please report it"
    except OSError as failure:
        where = f"its traceback cannot be written ({failure.strerror}):\n{text}"
    Terminal().err.print(f"error: {sentence}\n{where}", soft_wrap=True)


def _write_log(text: str) -> Path:
    folder = runs_root()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    header = (
        f"klp-harness {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"argv: {sys.argv!r}\n\n"
    )
    path.write_text(header + text, encoding="utf-8")
    return path
