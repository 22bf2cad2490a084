# SPDX-License-Identifier: GPL-2.0-only
"""What live patching needs of a guest, as protocols: a machine, or a scripted guest in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.agent_protocol import (
        DirEntry,
        FilePoll,
        FileStatus,
        KlogBatch,
        Op,
        Stragglers,
        TaskSample,
    )
    from harness.deadline import Deadline


class GuestProcess(Protocol):
    """A program that runs in the guest and prints lines."""

    @property
    def pid(self) -> int:
        """Process id in the guest."""

    def next_line(self, deadline: Deadline) -> str:
        """Return the next line of its standard output.

        Raises EOFError when it ended, TimeoutError when the deadline came first, and the guest's
        typed errors when the guest died meanwhile.
        """

    def lines(self, deadline: Deadline) -> Iterator[str]:
        """Yield lines of its standard output until it ends."""

    def write_line(self, text: str) -> None:
        """Write a line to its standard input."""

    def close_stdin(self) -> None:
        """Close its standard input."""

    def signal(self, number: int) -> None:
        """Send it a signal."""

    def wait(self, deadline: Deadline) -> int:
        """Return its exit code, negative when a signal ended it; raises TimeoutError."""


class Guest(Protocol):
    """A running guest. Every method raises the typed errors of harness.errors when the guest dies.

    File operations raise OSError with the guest's errno (FileNotFoundError and the like), and
    TimeoutError when the guest is alive but the operation did not end before the deadline.
    """

    @property
    def time_scale(self) -> float:
        """How many times slower than hardware this guest is; deadlines are multiplied by it."""

    def read(self, path: str, *, deadline: Deadline | None = None) -> str:
        """Return the text of a file."""

    def write(self, path: str, text: str, *, deadline: Deadline | None = None) -> None:
        """Write a text to a file by one write(2)."""

    def list_dir(self, path: str) -> tuple[DirEntry, ...]:
        """Return a directory's entries, sorted by name."""

    def stat(self, path: str) -> FileStatus:
        """Return type, mode and size of a file."""

    def poll_file(self, path: str, op: Op, value: str, *, deadline: Deadline) -> FilePoll:
        """Wait in the guest until a file meets the condition, or the deadline."""

    def poll_tasks(self, state: int, *, but: Sequence[int], deadline: Deadline) -> Stragglers:
        """Wait in the guest until all threads but those have the patch state, or the deadline."""

    def tasks(self) -> TaskSample:
        """Return all threads with their patch states."""

    def stack(self, tid: int) -> str:
        """Return /proc/TID/stack."""

    def klog(self, since: int = 0) -> KlogBatch:
        """Return the records of the kernel log from that sequence number on."""

    def upload(self, path: Path) -> str:
        """Copy a file of the host into the guest, once; return its path there."""

    def insmod(self, path: str, params: str = "", *, deadline: Deadline | None = None) -> None:
        """Load a module file of the guest; raises ModuleRefused with the kernel's errno."""

    def rmmod(self, name: str) -> None:
        """Unload a module; raises ModuleRefused with the kernel's errno."""

    def spawn(self, program: str, *args: str) -> GuestProcess:
        """Start a program of the guest, by its name in /bin or by its path."""
