# SPDX-License-Identifier: GPL-2.0-only
"""Makes a livepatch relocation of an ordinary one, as the tools of distributions do.

Documentation/livepatch/module-elf-format.rst: the section is named
``.klp.rela.OBJECT.SECTION`` and flagged SHF_RELA_LIVEPATCH, its symbols are named
``.klp.sym.OBJECT.SYMBOL,SYMPOS`` and have the section index SHN_LIVEPATCH.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.vm.elf.rewrite import ElfCopy

# include/uapi/linux/elf.h
_SHF_ALLOC = 0x2
_SHF_RELA_LIVEPATCH = 0x00100000
_SHN_LIVEPATCH = 0xFF20


@dataclass(frozen=True, kw_only=True)
class LivepatchRelocation:
    """All relocations of ``section`` are of ``symbol``, which stands for another object's."""

    section: str
    symbol: str
    object: str
    stands_for: str
    sympos: int = 0


def with_livepatch_relocation(module: bytes, wanted: LivepatchRelocation) -> bytes:
    """Return the module (ELF64, little endian) with that relocation left to livepatch.

    Raises ValueError when it has no such section or symbol.
    """
    elf = ElfCopy(module)
    number = elf.section(f".rela{wanted.section}")
    elf.rename_section(number, f".klp.rela.{wanted.object}{wanted.section}")
    section = elf.sections[number]
    section.flags |= _SHF_ALLOC | _SHF_RELA_LIVEPATCH
    symbol = next((each for each in elf.symbols(section.link) if each.name == wanted.symbol), None)
    if symbol is None:
        raise ValueError(f"the module has no symbol {wanted.symbol}")
    name = f".klp.sym.{wanted.object}.{wanted.stands_for},{wanted.sympos}"
    elf.rename_symbol(symbol, name, section=_SHN_LIVEPATCH, table=section.link)
    return elf.content()
