# SPDX-License-Identifier: GPL-2.0-only
"""The functions of a module: which lies at an offset, and which has a part elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.vm.elf.elf_file import EXEC, STT_FUNC
from harness.vm.elf.module_info import open_module

if TYPE_CHECKING:
    from pathlib import Path


def text_sections(module: Path) -> tuple[str, ...]:
    """Return the names of a .ko file's sections of code that stay in memory.

    There are several where functions have sections of their own (LTO), and for what is unlikely.
    Raises UsageError as `open_module` does.
    """
    return tuple(
        section.name
        for section in open_module(module).elf.sections
        if section.flags & EXEC and not section.name.startswith((".init", ".exit"))
    )


def function_at(module: Path, offset: int, section: str) -> str | None:
    """Return what lies at that offset of a section as ``name+0x10/0x20``, or None.

    ``module`` is a .ko file; None is said of an offset between functions, and of a section that it
    does not have. Raises UsageError as `open_module` does.
    """
    elf = open_module(module).elf
    text = elf.named(section)
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


def cold_part(module: Path, function: str) -> str | None:
    """Return the symbol of the part of a function that the compiler moved away, or None.

    GCC names it ``FUNCTION.cold``, GCC 8 ``FUNCTION.cold.N`` (-freorder-blocks-and-partition). Its
    code is in a section of its own, and no part of the function's own range of addresses. Raises
    UsageError as `open_module` does.
    """
    elf = open_module(module).elf
    for symbol in elf.symbols or ():
        base, cold, _ = symbol.name.partition(".cold")
        if base == function and cold and symbol.kind == STT_FUNC and symbol.size:
            home = symbol.defined_in
            if home is not None and elf.sections[home].flags & EXEC:
                return symbol.name
    return None
