# SPDX-License-Identifier: GPL-2.0-only
"""Which function of a module lies at an offset of its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

if TYPE_CHECKING:
    from pathlib import Path


def function_at(module: Path, offset: int) -> str | None:
    """Return what lies at that offset of .text as ``name+0x10/0x20``, or None between functions.

    ``module`` is a .ko file that harness.vm.elf.module_info has found to be one.
    """
    with module.open("rb") as file:
        elf = ELFFile(file)
        text = elf.get_section_index(".text")
        table = elf.get_section_by_name(".symtab")
        if text is None or not isinstance(table, SymbolTableSection):
            return None
        for symbol in table.iter_symbols():
            start, size = symbol["st_value"], symbol["st_size"]
            if (
                symbol["st_shndx"] == text
                and symbol["st_info"]["type"] == "STT_FUNC"
                and start <= offset < start + size
            ):
                return f"{symbol.name}+{offset - start:#x}/{size:#x}"
    return None
