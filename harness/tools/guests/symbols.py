# SPDX-License-Identifier: GPL-2.0-only
"""Where the kernel of a guest is in its memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.vm.elf.vmlinux import read_vmlinux

if TYPE_CHECKING:
    from harness.vm.guest.kept import KeptGuest


def moved_by(guest: KeptGuest) -> int:
    """Return how far KASLR has moved the kernel, in bytes; 0 where the guest did not say.

    Raises UsageError for a vmlinux that cannot be read.
    """
    if guest.text is None or guest.vmlinux is None:
        return 0
    linked = read_vmlinux(Path(guest.vmlinux)).named("_text")
    return guest.text - linked[0].address if linked else 0
