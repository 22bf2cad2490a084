# SPDX-License-Identifier: GPL-2.0-only
"""Output for people: results to standard output; progress, notes, errors to standard error.

All that commands print goes through here, and none of it can control the terminal. What does not:
the shell and the script of ``klp-harness boot``, of which the bytes are the guest's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import textwrap
import time
from typing import IO, TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from harness.log import LOGGER
from harness.report.text import printable as printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import ConsoleOptions, RenderableType
    from rich.progress import TaskID

    from harness.errors import KlpError

_LINE_EVERY_S = 10.0
_PROSE_WIDTH = 79
# Of tables in a file or a pipe: grep finds a row in one line.
_FILE_WIDTH = 160


class Terminal:
    """The terminal of a command. With ``results_to_stderr`` only JSON goes to standard output."""

    def __init__(
        self,
        *,
        results_to_stderr: bool = False,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
    ) -> None:
        stderr = stderr or sys.stderr
        stdout = stderr if results_to_stderr else stdout or sys.stdout
        self.out = _console(stdout)
        self.err = _console(stderr)

    def print(self, *what: RenderableType) -> None:
        """Print a part of the command's result. A text is never taken for markup."""
        for part in what:
            self.out.print(part, soft_wrap=isinstance(part, str | Text))

    def prose(self, text: str, *, indent: str = "") -> None:
        """Print sentences in lines of 79 characters at most."""
        for line in textwrap.wrap(
            text,
            _PROSE_WIDTH,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ):
            self.out.print(line, soft_wrap=True)

    @property
    def encoding(self) -> str:
        """The encoding of the stream for results."""
        return self.out.encoding

    def note(self, text: str) -> None:
        """Print a line about progress."""
        self.err.print(text, soft_wrap=True)

    def error(self, error: KlpError) -> None:
        """Print an error: its message, its hint, its details and the path of the logs."""
        self.err.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
        if error.hint:
            self.err.print(Text.assemble(("hint: ", "bold"), error.hint), soft_wrap=True)
        for line in error.details:
            self.err.print(f"    {line}", soft_wrap=True)
        if error.artefacts is not None:
            self.err.print(Text.assemble(("logs: ", "bold"), str(error.artefacts)), soft_wrap=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[TerminalProgress]:
        """Show the progress of long work: a bar on a terminal, plain lines with times elsewhere."""
        if self.err.is_terminal:
            with _bar(self.err) as bar:
                yield _BarProgress(bar)
        else:
            lines = LineProgress(self.note)
            yield lines
            lines.finish()


class TerminalProgress(Protocol):
    """Implements harness.vm.kernel.progress.Progress."""

    def stage(self, text: str) -> None:
        """Print the step that begins."""

    def count(self, done: int, total: int | None, what: str) -> None:
        """Print how many of ``total`` are done; ``total`` is None when it is not known."""


class _BarProgress:
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def stage(self, text: str) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._bar.print(text, soft_wrap=True)
        self._task = self._bar.add_task(text, total=None, counted="")

    def count(self, done: int, total: int | None, what: str) -> None:
        if self._task is None:
            self._task = self._bar.add_task(what, total=total, counted="")
        of = f"/{total}" if total is not None else ""
        self._bar.update(self._task, completed=done, total=total, counted=f"{done}{of} {what}")


class LineProgress(TerminalProgress):
    """Plain lines, each with the time since the start, for a log."""

    def __init__(
        self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._start_s = clock()
        self._last_line_s = clock()
        self._pending = ""

    def stage(self, text: str) -> None:
        """Print the step that begins."""
        self.finish()
        self._line(text)

    def count(self, done: int, total: int | None, what: str) -> None:
        """Print the count, unless a line was printed in the last 10 seconds."""
        self._pending = f"{done}{f' of {total}' if total is not None else ''} {what}"
        if self._clock() - self._last_line_s >= _LINE_EVERY_S:
            self.finish()

    def finish(self) -> None:
        """Print the last count of a step, so that a log shows where it ended."""
        if self._pending:
            self._line(self._pending)
            self._pending = ""

    def _line(self, text: str) -> None:
        self._last_line_s = self._clock()
        minutes, seconds = divmod(int(self._last_line_s - self._start_s), 60)
        self._say(f"[{minutes:02d}:{seconds:02d}] {text}")


class _LogToTerminal(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.note(self.format(record))


def log_to(terminal: Terminal, *, verbose: bool) -> None:
    """Send the harness's log to the terminal: warnings, or with ``verbose`` everything."""
    for old in LOGGER.handlers[:]:
        LOGGER.removeHandler(old)
    handler = _LogToTerminal(terminal)
    handler.setFormatter(logging.Formatter("klp-harness: %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOGGER.propagate = False


class _Console(Console):
    """Prints for all commands: nothing that comes from a guest reaches the terminal as control."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield the segments of a text, a table or a bar, all of them printable.

        What rich itself does to the terminal, such as moving the cursor for a bar, is apart from
        the text; a style is no part of it either.
        """
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)

    def on_broken_pipe(self) -> None:
        """Raise: rich would exit with 1, which means a failed test here."""
        raise


def _console(stream: IO[str]) -> Console:
    # COLUMNS is followed by rich itself.
    wide = not stream.isatty() and "COLUMNS" not in os.environ
    return _Console(
        file=stream, width=_FILE_WIDTH if wide else None, markup=False, highlight=False, emoji=False
    )


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[counted]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
