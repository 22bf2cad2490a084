# SPDX-License-Identifier: GPL-2.0-only
"""A module's file is changed where it was meant to be, and nowhere else: read back by others."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from benchmarks.module_mutation.rewrite import ElfCopy
from harness.vm.elf.elf_file import ElfFile
from harness.vm.elf.klp_structs import REPLACE, SYMPOS, locate_patch
from harness.vm.elf.module_info import read_module

MODULES = Path(__file__).parent / "data/modules"
GATE = MODULES / "klp_test_gate.ko"
# As scripts/sign-file appends one: struct module_signature, whose last word is the size before it.
SIGNATURE = b"PKCS#7 would be here"
SIGNED = SIGNATURE + struct.pack(">8xI", len(SIGNATURE)) + b"~Module signature appended~\n"


def changed(copy: ElfCopy, folder: Path) -> Path:
    path = folder / GATE.name
    path.write_bytes(copy.content())
    return path


def test_a_copy_that_nobody_changes_is_the_file() -> None:
    """Reading and writing a module changes no byte."""
    for path in MODULES.glob("*.ko"):
        assert ElfCopy(path.read_bytes()).content() == path.read_bytes()


def test_sections_symbols_and_relocations_are_those_that_pyelftools_reads() -> None:
    """pyelftools reads the same of a module."""
    copy = ElfCopy(GATE.read_bytes())
    with GATE.open("rb") as file:
        elf: Any = ELFFile(file)
        names = [section.name for section in elf.iter_sections()]
        assert [copy.section_name(number) for number in range(len(names))] == names
        table = elf.get_section_by_name(".symtab")
        assert [symbol.value for symbol in copy.symbols()] == [
            symbol["st_value"] for symbol in table.iter_symbols()
        ]
        for relocation in elf.get_section_by_name(".rela.data").iter_relocations():
            own = copy.relocation(copy.section(".data"), relocation["r_offset"])
            assert own is not None
            assert (own.symbol, own.type, own.addend) == (
                relocation["r_info_sym"],
                relocation["r_info_type"],
                relocation["r_addend"],
            )


def test_a_word_is_written_and_read_by_the_reader_of_modules(tmp_path: Path) -> None:
    """Another reader finds the changed word and byte, and no other change."""
    layout = locate_patch(ElfFile(GATE.read_bytes()))
    assert layout is not None
    place = layout.objects[0].functions[1]
    copy = ElfCopy(GATE.read_bytes())
    copy.set_word(place.section, place.offset + SYMPOS, 7)
    copy.write(layout.section, layout.offset + REPLACE, b"\1")
    patch = read_module(changed(copy, tmp_path)).patch
    assert patch is not None
    assert [function.sympos for function in patch.functions] == [0, 7, 0]
    assert patch.replace


def test_what_is_appended_is_read_and_the_rest_stays(tmp_path: Path) -> None:
    """A section that grows keeps its content; all other sections stay."""
    copy = ElfCopy(GATE.read_bytes())
    strings = next(
        number
        for number in range(len(copy.sections))
        if copy.section_name(number).startswith(".rodata.str")
    )
    before = copy.read(strings, 0, copy.sections[strings].size)
    start = copy.append(strings, b"one more\0")
    path = changed(copy, tmp_path)
    with path.open("rb") as file:
        data = ELFFile(file).get_section(strings).data()
    assert data == before + b"one more\0"
    assert copy.string(strings, start) == "one more"
    whole, shown = read_module(GATE), read_module(path)
    assert (shown.patch, shown.symbols, shown.undefined) == (
        whole.patch,
        whole.symbols,
        whole.undefined,
    )


def test_a_signature_is_left_out(tmp_path: Path) -> None:
    """One that does not fit is refused by the kernel; none is taken."""
    signed = tmp_path / "signed.ko"
    signed.write_bytes(GATE.read_bytes() + SIGNED)
    assert read_module(signed).signed
    assert ElfCopy(signed.read_bytes()).content() == GATE.read_bytes()


def test_what_is_not_there_is_an_error() -> None:
    """A missing section is an error, and so is a place outside of one."""
    copy = ElfCopy(GATE.read_bytes())
    with pytest.raises(ValueError, match=r"no section \.nowhere"):
        copy.section(".nowhere")
    data = copy.section(".data")
    with pytest.raises(ValueError, match="has no 8 bytes"):
        copy.set_word(data, copy.sections[data].size - 4, 0)
    assert copy.relocation(data, copy.sections[data].size) is None
