# SPDX-License-Identifier: GPL-2.0-only
"""Files and folders that a user names: looked at without waiting, read within bounds.

A name may lead anywhere: to a pipe that nobody writes to, a device without an end, a link to
itself, a file of another user. Each is refused in a sentence before anything is read from it.
"""

from __future__ import annotations

import os
import stat
from enum import StrEnum
from pathlib import Path

from harness.errors import UsageError

MIB = 1 << 20
TEXT_BYTES = 16 * MIB
"""The most that is read of a text that a person writes: a fragment, a check, a Makefile."""

_SHOWN_CHARACTERS = 120
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Kind(StrEnum):
    """What a path leads to."""

    FILE = "file"
    FOLDER = "folder"
    NOTHING = "nothing"


def shown(text: object) -> str:
    """Return what a user typed as a sentence quotes it: printable, and not without end."""
    quoted = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
    if len(quoted) <= _SHOWN_CHARACTERS:
        return quoted
    return f"{quoted[:_SHOWN_CHARACTERS]}... ({len(str(text))} characters)"


def user_path(named: str | Path, what: str) -> Path:
    """Return the path that a user typed, with ~ replaced; ``what`` names it in a sentence.

    Raises UsageError for what names no file of any system.
    """
    text = str(named)
    if not text:
        raise UsageError(f"{what} is named by an empty word", hint="name a file or a folder")
    if "\0" in text:
        raise UsageError(f"{what} {shown(text)} cannot exist: its name has a zero byte")
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:  # no such user; no text in any encoding
        raise UsageError(f"{what} {shown(text)} names no file: {shown(error)}") from error


def kind_of(path: Path, what: str) -> Kind:
    """Return what a path leads to, links followed.

    Raises UsageError for a pipe, socket or device, for a name that is too long, for links in a
    circle, and where this user may not look.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Kind.NOTHING
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} {shown(path)} cannot be read: {_reason(error)}") from error
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    raise UsageError(f"{what} {shown(path)} is {_KINDS[stat.S_IFMT(mode)]}, and no file or folder")


def read_file(path: Path, what: str, *, at_most: int = TEXT_BYTES) -> bytes:
    """Return a file's content, of so many bytes at most; ``what`` names it in a sentence.

    Raises UsageError when there is none, it is no file, too large, or cannot be read.
    """
    try:
        # Without O_NONBLOCK the open of a pipe waits for whoever writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
                raise UsageError(f"{what} {shown(path)} is {kind}, and no file")
            # A file may grow, and one of /proc has no size: what comes is counted.
            content, size = [], status.st_size
            while size <= at_most and (part := file.read(MIB)):
                content.append(part)
                size = max(size, sum(map(len, content)))
            if size > at_most:
                raise UsageError(
                    f"{what} {shown(path)} has more than {at_most // MIB} MiB, which is no size "
                    "for it"
                )
            return b"".join(content)
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} {shown(path)} cannot be read: {_reason(error)}") from error


def read_text_file(path: Path, what: str, *, at_most: int = TEXT_BYTES) -> str:
    """Return a file's text, with replacement characters where it is no UTF-8; see `read_file`."""
    return read_file(path, what, at_most=at_most).decode(errors="replace")


def _reason(error: OSError | ValueError) -> str:
    # open(2) of a socket fails with ENXIO, which says nothing.
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
