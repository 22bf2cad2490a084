# SPDX-License-Identifier: GPL-2.0-only
"""The options that shape guests: files in them, words on their kernel's command line, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.vm.guest.guest_files import guest_files
from harness.vm.guest.rootfs import check_root, obtain
from harness.vm.guest.session import MEMORY_MIB

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.report.terminal import Terminal
    from harness.vm.guest.root_disk import RootDisk

LEAST_MIB = 128


@dataclass(frozen=True, kw_only=True)
class GuestOptions:
    """What the guests of a command have beside what all guests have."""

    file: Annotated[
        tuple[str, ...],
        typer.Option(
            "--file",
            metavar="SRC:DST",
            help="File or folder to be in each guest, at the path DST there. Repeatable.",
        ),
    ] = ()
    append: Annotated[
        tuple[str, ...],
        typer.Option(
            "--append", metavar="WORDS", help="Words for the kernel's command line. Repeatable."
        ),
    ] = ()
    memory: Annotated[
        int,
        typer.Option("--memory", min=LEAST_MIB, metavar="MIB", help="Memory of a guest."),
    ] = MEMORY_MIB

    rootfs: Annotated[
        str | None,
        typer.Option(
            "--rootfs",
            metavar="DIR|IMAGE|deb:SUITE",
            help="Root file system of the guests: a folder, an image (ext4, squashfs, qcow2), or a "
            "suite of Debian with packages (deb:bookworm,bpftrace).",
        ),
    ] = None
    rootfs_init: Annotated[
        bool,
        typer.Option(
            "--rootfs-init", help="Start that root's own init, systemd, and wait until it is up."
        ),
    ] = False

    def files(self) -> Mapping[str, Path]:
        """Return the host files by their paths in the guest; raises UsageError."""
        return guest_files(self.file)

    def root(self, terminal: Terminal) -> RootDisk | None:
        """Return the guests' root file system, made when it is not in the cache; None without one.

        Raises UsageError when it cannot be one, and what making it does.
        """
        spec = check_root(self.rootfs, init=self.rootfs_init)
        if spec is None:
            return None
        with terminal.progress() as progress:
            return obtain(spec, progress, init=self.rootfs_init)

    @property
    def kernel_args(self) -> tuple[str, ...]:
        """The words for the kernel's command line."""
        return tuple(word for text in self.append for word in text.split())
