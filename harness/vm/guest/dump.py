# SPDX-License-Identifier: GPL-2.0-only
"""The memory of a guest as a file that drgn opens: QEMU's dump-guest-memory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import HarnessError, NoSpace

if TYPE_CHECKING:
    from harness.vm.guest.qmp import Monitor

_DUMP_S = 300.0
_FD_NAME = "vmcore"
_CR4 = re.compile(r"CR4=([0-9a-f]+)")
_CR4_LA57 = 1 << 12
_PHYSICAL = re.compile(r"gpa: (0x[0-9a-f]+)")
# __START_KERNEL_map (arch/x86/include/asm/page_64_types.h): phys_base is what is missing there.
_MAP = 0xFFFFFFFF80000000


def write_dump(monitor: Monitor, path: str, *, compressed: bool) -> None:
    """Write the guest's memory and its CPUs' registers to a new file, readable by this user alone.

    The guest stands still meanwhile. It is ELF, or kdump's format with zlib when ``compressed``.
    QEMU, which may be another user, gets the open file. Raises QemuFailed, HarnessError, NoSpace.
    """
    target = Path(path)
    deadline = Deadline.after(_DUMP_S)
    try:
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HarnessError(f"cannot write {target}: {error.strerror}") from error
    try:
        monitor.pass_fd(descriptor, _FD_NAME, deadline=deadline)
        wanted = {
            "paging": False,
            "protocol": f"fd:{_FD_NAME}",
            "format": "kdump-zlib" if compressed else "elf",
        }
        monitor.execute("dump-guest-memory", wanted, deadline=deadline)
        if os.fstat(descriptor).st_size == 0:
            raise HarnessError(f"QEMU wrote nothing to {target}")
    except BaseException as error:
        target.unlink(missing_ok=True)
        if "No space" in str(error):
            raise NoSpace(f"no space left to write {target}") from error
        raise
    finally:
        os.close(descriptor)


def has_five_levels(monitor: Monitor, deadline: Deadline) -> bool:
    """Return whether the first CPU uses page tables of five levels (CR4.LA57)."""
    found = _CR4.search(monitor.human("info registers", deadline=deadline))
    return found is not None and bool(int(found[1], 16) & _CR4_LA57)


def phys_base(monitor: Monitor, text: int | None, deadline: Deadline) -> int:
    """Return the kernel's ``phys_base`` from where its text is, 0 where that is not known."""
    if text is None:
        return 0
    found = _PHYSICAL.search(monitor.human(f"gva2gpa {text:#x}", deadline=deadline))
    return int(found[1], 16) - (text - _MAP) if found is not None else 0
