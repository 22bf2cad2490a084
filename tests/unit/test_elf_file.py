# SPDX-License-Identifier: GPL-2.0-only
"""ELF files, whole and damaged: all that reads them answers, or refuses, within bounds."""

from __future__ import annotations

import contextlib
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError, UsageError
from harness.tools.verify.unused_functions import unused_functions
from harness.vm.elf.elf_file import ElfFile
from harness.vm.elf.module_info import read_module
from harness.vm.elf.symbols import function_at
from harness.vm.elf.vmlinux import read_vmlinux
from tests.fuzz.elf import damaged, doubled, seeds, try_one
from tests.unit.compiled_modules import HEAD, compiled

if TYPE_CHECKING:
    from types import FrameType

MODULES = Path(__file__).with_name("data") / "modules"
SYMBOL_BYTES = 24


@pytest.mark.parametrize("path", sorted(MODULES.glob("*.ko")), ids=lambda path: path.stem)
def test_what_is_read_is_what_pyelftools_reads(path: Path) -> None:
    """Sections, their content, symbols and relocations are those that another reader finds."""
    own = ElfFile(path.read_bytes())
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        sections = list(elf.iter_sections())
        assert [each.name for each in own.sections] == [each.name for each in sections]
        for mine, theirs in zip(own.sections, sections, strict=True):
            assert (mine.flags, mine.size) == (theirs["sh_flags"], theirs["sh_size"])
            if mine.in_file and mine.kind:
                assert own.data(mine) == theirs.data()
        wanted = [
            (symbol.name, symbol["st_value"], symbol["st_size"])
            for symbol in elf.get_section_by_name(".symtab").iter_symbols()
        ]
        found = [(symbol.name, symbol.value, symbol.size) for symbol in own.symbols or ()]
        # It gives the symbols of sections their sections' names.
        assert [each[1:] for each in found] == [each[1:] for each in wanted]
        assert [a for a, b in zip(found, wanted, strict=True) if a[0] and a != b] == []
        for number, relocations in own.tables.items():
            assert [(each.offset, each.kind, each.addend) for each in relocations] == [
                (each["r_offset"], each["r_info_type"], each["r_addend"])
                for each in sections[number].iter_relocations()
            ]


@settings(max_examples=600, deadline=None, derandomize=True)
@given(number=st.integers(0, 1 << 32))
def test_damage_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, number: int) -> None:
    """Flipped, overwritten, cut off, spliced: every reader answers, or refuses, and never breaks.

    `python -m tests.fuzz.elf` tries more of the same inputs.
    """
    folder = tmp_path_factory.mktemp("damage")
    try_one(doubled(folder), folder / "x.ko", damaged(seeds(), number))


@pytest.mark.parametrize("size", [1 << 28, 1 << 40, (1 << 64) - 1])
@pytest.mark.parametrize("name", ["klp_test_gate", "klp_test_callbacks_a"])
def test_a_symbol_of_any_size_takes_no_memory(tmp_path: Path, name: str, size: int) -> None:
    """A size in a symbol is held against its section before anything is made of it."""
    whole = (MODULES / f"{name}.ko").read_bytes()
    table = ElfFile(whole).named(".symtab")
    assert table is not None
    path = tmp_path / "x.ko"
    tracemalloc.start()
    try:
        for at in range(table.offset, table.offset + table.size, SYMBOL_BYTES):
            content = bytearray(whole)
            struct.pack_into("<Q", content, at + 16, size)
            path.write_bytes(content)
            for read in (read_module, unused_functions):
                with contextlib.suppress(UsageError):
                    read(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_sections_that_overlap_are_refused(tmp_path: Path) -> None:
    """A file in which every section is the whole file would be read once for each of them."""
    content = bytearray((MODULES / "klp_test_gate.ko").read_bytes())
    table, count = (
        struct.unpack_from("<Q", content, 40)[0],
        struct.unpack_from("<H", content, 60)[0],
    )
    for number in range(1, count):
        struct.pack_into("<QQ", content, table + 64 * number + 24, 0, len(content))
    (tmp_path / "x.ko").write_bytes(content)
    with pytest.raises(UsageError, match="is damaged"):
        read_module(tmp_path / "x.ko")


@pytest.mark.parametrize(
    "read", [read_module, unused_functions, lambda path: function_at(path, 0, ".text")]
)
def test_every_reader_refuses_in_a_sentence(tmp_path: Path, read: Any) -> None:
    """Whoever reads a module's file reads it in the same way, and not after another has."""
    path = tmp_path / "x.ko"
    path.write_bytes((MODULES / "klp_test_gate.ko").read_bytes()[:4000])
    with pytest.raises(UsageError, match=r"is cut off: .* its section table ends at"):
        read(path)


def test_a_kernel_image_that_became_shorter(tmp_path: Path) -> None:
    """An image that another build writes just now is the harness's failure, in a sentence."""
    whole = (MODULES / "klp_target_gate.ko").read_bytes()
    (tmp_path / "vmlinux").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HarnessError, match=r"no readable kernel image: .* section table ends"):
        read_vmlinux(tmp_path / "vmlinux")


def calls(run: Any) -> int:
    """Return how many calls and steps of generators a function takes."""
    count = 0

    def see(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def test_the_work_grows_with_the_size_of_a_module(tmp_path: Path) -> None:
    """Four times the functions are four times the work, not sixteen times: 8,000 took 2.9 s."""
    work = {}
    for functions in (100, 400):
        body = "".join(
            f"int f{n}(void) {{ static int v = {n}; return v ? body() : {n}; }}\n"
            f"void *p{n} = f{n};\n"
            f'asm(".section __mcount_loc,\\"a\\"\\n.quad f{n}\\n.text");\n'
            for n in range(functions)
        )
        lists = "".join(
            f'static struct func l{n}[] = {{ {{ "f{n}", f{n} }}, {{ 0 }} }};\n'
            f"struct func *keep{n} = l{n};\n"
            for n in range(functions)
        )
        struct_ = (
            "struct func { const char *name; void *body; unsigned long pos; char rest[128]; };\n"
        )
        path = compiled(tmp_path, HEAD + struct_ + body + lists)
        work[functions] = calls(lambda path=path: (read_module(path), unused_functions(path)))
    assert work[400] < 6 * work[100]
