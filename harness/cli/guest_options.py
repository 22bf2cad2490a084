# SPDX-License-Identifier: GPL-2.0-only
"""The options that shape guests: files in them, words on their kernel's command line, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.vm.guest.guest_files import guest_files
from harness.vm.guest.session import MEMORY_MIB

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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

    def files(self) -> Mapping[str, Path]:
        """Return the host files by their paths in the guest; raises UsageError."""
        return guest_files(self.file)

    @property
    def kernel_args(self) -> tuple[str, ...]:
        """The words for the kernel's command line."""
        return tuple(word for text in self.append for word in text.split())
