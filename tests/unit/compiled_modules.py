# SPDX-License-Identifier: GPL-2.0-only
"""Stand-ins for module files, compiled without kernel headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path


def compiled(folder: Path, source: str, *more: str) -> Path:
    """Compile a stand-in for a module; kernel headers are not needed for what is read of it.

    ``more`` are flags of the compiler.
    """
    (folder / "mod.c").write_text(source)
    flags = [
        "-O2",
        "-fno-toplevel-reorder",
        "-fno-pic",
        "-mcmodel=kernel",
        "-pg",
        "-mfentry",
        "-mrecord-mcount",
    ]
    command = ["gcc", *flags, *more, "-c", "mod.c", "-o", "mod.ko"]
    run(command, deadline=Deadline.after(30), cwd=folder)
    return folder / "mod.ko"


HEAD = """
#define MODINFO(n, text) \\
  static const char n[] __attribute__((section(".modinfo"), used, aligned(1))) = text
MODINFO(a, "vermagic=6.1.192 SMP mod_unload ");
MODINFO(b, "name=mod");
MODINFO(c, "livepatch=Y");
extern char __this_module[];
int body(void) { asm volatile(""); return 1; }
"""
