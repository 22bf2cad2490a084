# SPDX-License-Identifier: GPL-2.0-only
"""Directories below /sys/kernel/livepatch and their attributes, of which kernels lack some."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from harness.errors import WrongAttribute

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.livepatch.guest import Guest

SYSFS = "/sys/kernel/livepatch"
_NUMBER = re.compile(r"-?[0-9]{1,20}")


class Directory:
    """A directory with attributes, whether it exists or not."""

    def __init__(self, guest: Guest, path: str) -> None:
        self._guest = guest
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether it exists. It is removed some time after its patch was disabled."""
        return exists(self._guest, self.path)

    def has(self, attribute: str) -> bool:
        """Return whether this kernel has the attribute."""
        return exists(self._guest, f"{self.path}/{attribute}")

    def read(self, attribute: str) -> str:
        """Return an attribute's text without the newline; raises OSError.

        FileNotFoundError also while it is being removed, when sysfs answers with ENODEV.
        """
        path = f"{self.path}/{attribute}"
        try:
            return self._guest.read(path).removesuffix("\n")
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
            raise

    def write(self, attribute: str, text: str, *, deadline: Deadline | None = None) -> None:
        """Write a text to an attribute; raises OSError with the errno of a refusal."""
        self._guest.write(f"{self.path}/{attribute}", text, deadline=deadline)

    def modes(self) -> dict[str, int]:
        """Return each attribute's permission bits by its name."""
        return {
            entry.name: entry.mode
            for entry in self._guest.list_dir(self.path)
            if entry.type == "file"
        }

    def subdirectories(self) -> tuple[str, ...]:
        """Return the names of the directories in it."""
        entries = self._guest.list_dir(self.path)
        return tuple(entry.name for entry in entries if entry.type == "dir")

    def optional(self, attribute: str) -> str | None:
        """Return an attribute's text, None when this kernel does not have it.

        Raises FileNotFoundError when the directory itself does not exist.
        """
        try:
            return self.read(attribute)
        except FileNotFoundError:
            self._guest.stat(self.path)
            return None


def exists(guest: Guest, path: str) -> bool:
    """Return whether a path exists in the guest."""
    try:
        guest.stat(path)
    except FileNotFoundError:
        return False
    return True


def flag(text: str, path: str) -> bool:
    """Return a text of "0" or "1" as a bool; raises WrongAttribute for anything else."""
    if text not in ("0", "1"):
        raise WrongAttribute(f"{path} reads {text!r}, not 0 or 1")
    return text == "1"


def number(text: str, path: str) -> int:
    """Return a text as the number that it is; raises WrongAttribute for anything else."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise WrongAttribute(f"{path} reads {text!r}, not a number")
    return int(text)
