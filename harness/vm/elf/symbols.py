# SPDX-License-Identifier: GPL-2.0-only
"""Which function of a module lies at an offset of its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.vm.elf.elf_file import STT_FUNC
from harness.vm.elf.module_info import open_module

if TYPE_CHECKING:
    from pathlib import Path


def function_at(module: Path, offset: int) -> str | None:
    """Return what lies at that offset of .text as ``name+0x10/0x20``, or None between functions.

    ``module`` is a .ko file. Raises UsageError as `open_module` does.
    """
    elf = open_module(module).elf
    text = elf.named(".text")
    for symbol in elf.symbols or ():
        start, size = symbol.value, symbol.size
        if (
            text is not None
            and symbol.section == text.number
            and symbol.kind == STT_FUNC
            and start <= offset < start + size
        ):
            return f"{symbol.name}+{offset - start:#x}/{size:#x}"
    return None
