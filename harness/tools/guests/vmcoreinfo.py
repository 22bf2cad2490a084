# SPDX-License-Identifier: GPL-2.0-only
"""What drgn has to know of a kernel before it can read its memory: the VMCOREINFO note.

A kernel without CONFIG_KEXEC_CORE has none, so it is written here from what vmlinux and the guest
say (Documentation/admin-guide/kdump/vmcoreinfo.rst).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.tools.guests.symbols import moved_by
from harness.vm.elf.vmlinux import read_vmlinux

if TYPE_CHECKING:
    from harness.vm.guest.kept import KeptGuest

_PAGE = 4096
_TOP_TABLE = "swapper_pg_dir"
_OTHER_TOP_TABLE = "init_top_pgt"


def vmcoreinfo(guest: KeptGuest) -> str:
    """Return the note's text; raises HarnessError, and UsageError for an unreadable vmlinux."""
    assert guest.vmlinux is not None
    image = read_vmlinux(Path(guest.vmlinux))
    tables = image.named(_TOP_TABLE) or image.named(_OTHER_TOP_TABLE)
    if not tables:
        raise HarnessError(f"{guest.vmlinux} does not say where the kernel's page tables are")
    moved = moved_by(guest)
    facts = {
        "OSRELEASE": guest.kernel.split()[0],
        "PAGESIZE": str(_PAGE),
        f"SYMBOL({_TOP_TABLE})": f"{tables[0].address + moved:x}",
        "KERNELOFFSET": f"{moved:x}",
        "NUMBER(phys_base)": str(guest.phys_base),
        "NUMBER(pgtable_l5_enabled)": str(int(guest.five_levels)),
    }
    return "".join(f"{name}={value}\n" for name, value in facts.items())
