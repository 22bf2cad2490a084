# SPDX-License-Identifier: GPL-2.0-only
"""Standard input, output and error as they may be: closed, full, or opened for reading alone.

A command works without them, and its exit code says what it found: never a failed write by itself,
for which Python would end with 1 or 120. This is imported before all that is heavy.
"""

from __future__ import annotations

import errno
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

_STDOUT, _STDERR = 1, 2
_FULL = (errno.ENOSPC, errno.EDQUOT)
_VERDICT, _USAGE, _HARNESS = 1, 2, 3


class _Kept(io.FileIO):
    """A stream whose writes do not fail. The first error is kept, and what follows it is lost."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write; raises BrokenPipeError alone, by which a program learns that nobody reads."""
        size = memoryview(data).nbytes
        if self.error is not None:
            return size
        try:
            return super().write(data)
        except (BrokenPipeError, InterruptedError):
            raise
        except OSError as error:
            self.error = error
            return size


_raw: dict[int, _Kept] = {}
_closed: set[int] = set()


def mend() -> None:
    """Open what is closed as /dev/null, and have no write of text to the others fail.

    A descriptor that is closed would be that of the next file: a socket, a result.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(number)
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    if sys.stdin is None or 0 in _closed:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _text(_STDOUT, sys.stdout)
    sys.stderr = _text(_STDERR, sys.stderr)


def is_closed(number: int) -> bool:
    """Return whether that descriptor was closed when the program began."""
    return number in _closed


def settle(code: int) -> int:
    """Return the exit code of a command that ends with ``code``: was its output written?

    Output that was lost is 3 where the file system is full or failed, 2 where it cannot be written
    to; the code of a command that failed by itself stays.
    """
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - contextlib takes longer to import than all that is here
            stream.flush()
        except (OSError, ValueError):
            # Nobody reads, or it was closed: what ended the command has said so.
            pass
    raw = _raw.get(_STDOUT)
    if raw is None or raw.error is None or code not in (0, _VERDICT):
        return code
    is_full = raw.error.errno in _FULL
    what = "no space left to write" if is_full else "cannot write"
    why = "" if is_full else f": {raw.error.strerror}"
    sys.stderr.write(f"error: {what} to standard output{why}\n")
    return _USAGE if raw.error.errno == errno.EBADF else _HARNESS


def _text(number: int, before: TextIO | None) -> TextIO:
    raw = _raw[number] = _Kept(number, "w", closefd=False)
    encoding = before.encoding if before is not None else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        # A guest's console may hold anything; a terminal that cannot show it gets escapes.
        errors="backslashreplace",
        line_buffering=number == _STDERR or raw.isatty(),
        write_through=bool(os.environ.get("PYTHONUNBUFFERED")),
    )
