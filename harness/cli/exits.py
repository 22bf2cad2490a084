# SPDX-License-Identifier: GPL-2.0-only
"""How every command ends: errors become sentences and exit codes, signals leave nothing behind."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import platform
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import typer

from harness import __version__
from harness.cli.again import forget, remember
from harness.cli.host_errors import as_host_failure
from harness.cli.option_groups import with_option_groups
from harness.cli.signals import Terminated, number_of, sentence, unwind
from harness.errors import ExitCode, HarnessError, KlpError
from harness.inputs import shown
from harness.report.terminal import Terminal
from harness.resources import runs_root
from harness.vm.host.process import obey_parent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["EXIT_CODE", "Terminated", "guarded", "interrupted", "run_to_exit"]

# typer may have a copy of click of its own.
_CLICK: Any = typer.BadParameter.__mro__[2]

EXIT_CODE = "klp_exit_code"
"""An attribute by which an unforeseen exception ends the process with a code of its own."""


def interrupted(interrupt: KeyboardInterrupt) -> int:
    """Say in one line that a signal ended the command, and return its exit code.

    130 for Ctrl-C; 143 for SIGTERM and 129 for SIGHUP, as a shell reports them. A command that is
    on its way out is not interrupted again.
    """
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    number = number_of(interrupt)
    with contextlib.suppress(OSError):
        sys.stderr.write(sentence(number))
        sys.stderr.flush()
    return 128 + number


def run_to_exit(load: Callable[[], Callable[..., Any]], name: str) -> int:
    """Load and run a typer application; return the exit code, whatever happens."""
    try:
        obey_parent()
        return int(load()(prog_name=name, standalone_mode=False) or ExitCode.HELD)
    except KlpError as error:
        Terminal().error(error)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        return interrupted(interrupt)
    except BrokenPipeError:
        return _end_quietly()
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.HARNESS
    except Exception as error:  # noqa: BLE001 - a command that cannot even be imported
        if not isinstance(error, _CLICK):
            _report_bug(error)
            return ExitCode.HARNESS
        with contextlib.suppress(BrokenPipeError):
            error.show()
        return int(error.exit_code)


def guarded(command: Callable[..., int]) -> Callable[..., None]:
    """Wrap a command for typer: its exit code, or that of what it raises, ends the process.

    A KlpError is printed as sentences, and so is what the host refuses (a full disk, no rights, no
    more processes). Anything else is a bug of ours: one sentence says so and names the file with
    the traceback.
    """

    grouped = with_option_groups(command)

    @functools.wraps(grouped)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        try:
            unwind()
            remember()
            code = grouped(*args, **kwargs)
        except KlpError as error:
            Terminal().error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(interrupted(interrupt)) from None
        except BrokenPipeError:
            raise typer.Exit(_end_quietly()) from None
        except (typer.Exit, typer.Abort):
            raise
        except OSError as error:
            # What the host refused: a full disk, a folder that is not there or closed to this user.
            Terminal().error(as_host_failure(error) or _refused(error))
            _note_traceback(error)
            raise typer.Exit(getattr(error, EXIT_CODE, ExitCode.HARNESS)) from None
        except Exception as error:
            if _is_usage(error):
                raise
            _report_bug(error)
            raise typer.Exit(getattr(error, EXIT_CODE, ExitCode.HARNESS)) from None
        finally:
            forget()
        raise typer.Exit(code)

    return wrapper


def _is_usage(error: Exception) -> bool:
    # typer.BadParameter and its kin: typer itself prints them and exits with 2.
    return isinstance(error, _CLICK)


def _end_quietly() -> int:
    """Return the exit code of a program whose reader went away (`| head`).

    What is written from here on goes nowhere, so that Python's last flush does not fail.
    """
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(devnull, stream.fileno())
    os.close(devnull)
    return 128 + signal.SIGPIPE


def _refused(error: OSError) -> HarnessError:
    where = f" {shown(error.filename)}" if error.filename is not None else " something"
    return HarnessError(
        f"the host refused{where}: {error.strerror or shown(error)}",
        hint="`klp-harness doctor` looks at the folders that a run writes to",
    )


def _note_traceback(error: OSError) -> None:
    with contextlib.suppress(OSError, KlpError):
        _write_log("".join(traceback.format_exception(error)))


def _report_bug(error: Exception) -> None:
    text = "".join(traceback.format_exception(error))
    sentence = f"this is a bug in klp-harness: {type(error).__name__}: {error}".splitlines()[0]
    try:
        where = f"the traceback is in {_write_log(text)}; please report it"
    except (OSError, KlpError) as failure:
        where = f"its traceback cannot be written ({failure}):\n{text}"
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
