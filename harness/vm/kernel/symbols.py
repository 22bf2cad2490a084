# SPDX-License-Identifier: GPL-2.0-only
"""The symbols of a kernel, from the best of what there is of it on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.vm.elf.system_map import read_system_map
from harness.vm.elf.vmlinux import read_vmlinux

if TYPE_CHECKING:
    from harness.vm.elf.vmlinux import Vmlinux
    from harness.vm.kernel.kernel import Kernel


def kernel_symbols(kernel: Kernel) -> Vmlinux | None:
    """Return the symbols of vmlinux, else of System.map or kallsyms; None when there is neither.

    Only a vmlinux says what can be traced: see `Vmlinux.knows_call_sites`.
    Raises HarnessError when the file cannot be read.
    """
    if kernel.vmlinux is not None:
        return read_vmlinux(kernel.vmlinux)
    return read_system_map(kernel.symbols) if kernel.symbols is not None else None


def not_judged(kernel: Kernel) -> str | None:
    """Return in a sentence what of functions the host cannot judge; None when it can judge all."""
    if kernel.vmlinux is not None:
        return None
    if kernel.symbols is not None:
        return (
            f"{kernel.version} comes with a list of its symbols and without debug information: "
            "which functions ftrace can redirect is judged by the kernel when the livepatch is "
            "loaded"
        )
    return (
        f"{kernel.version} comes without its symbols: whether a function exists and can be traced "
        "is judged by the kernel when the livepatch is loaded"
    )
