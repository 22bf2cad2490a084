# SPDX-License-Identifier: GPL-2.0-only
"""A reader of text that is not ours, for the fuzzer, and what readers are given."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import KlpError


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader. ``raises`` are exceptions that its callers deal with, beside KlpError."""

    name: str
    read: Callable[[bytes], object]
    samples: Callable[[], list[bytes]]
    raises: tuple[type[Exception], ...] = ()

    def __str__(self) -> str:
        return self.name

    def take(self, data: bytes) -> None:
        """Read the data; raises only what is a defect."""
        allowed: tuple[type[Exception], ...] = (KlpError, *self.raises)
        try:
            self.read(data)
        except allowed:
            return


def text_of(data: bytes) -> str:
    """Return what the harness gets of bytes from a guest."""
    return data.decode(errors="replace")


@cache
def scratch() -> Path:
    """Return a folder for readers that want a file; it is removed with this process."""
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(
        prefix="klp-fuzz-", dir=memory if memory.is_dir() else None
    )
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def file_with(data: bytes, name: str = "input") -> Path:
    """Write the data to a file."""
    path = scratch() / name
    path.write_bytes(data)
    return path
