# SPDX-License-Identifier: GPL-2.0-only
"""Livepatch relocations that the kernel refuses: names, marks and symbols that cannot be."""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile

from harness.errors import ModuleRefused
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.vm.elf.livepatch_relocation import LivepatchRelocation, with_livepatch_relocation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

TARGET, PATCH = "klp_target_mod", "klp_test_relocation"
SECTION = ".klp_hidden"
SYMBOL = f".klp.sym.{TARGET}.klp_target_g,0"
SHN_ABS = 0xFFF1
SH_SIZE = 32  # where Elf64_Shdr has it
# Each text is replaced by one of the same length: (before, after).
NAMES = {
    "section-without-object": (
        f".klp.rela.{TARGET}{SECTION}",
        f".klp.rela..{TARGET[1:]}{SECTION}",
        "has an incorrectly formatted name",
    ),
    "symbol-without-position": (
        SYMBOL,
        SYMBOL.replace(",", "#"),
        "has an incorrectly formatted name",
    ),
    "symbol-without-object": (
        SYMBOL,
        SYMBOL.replace(f".{TARGET}", f"..{TARGET[1:]}"),
        "has an incorrectly formatted name",
    ),
    "unknown-symbol": (SYMBOL, SYMBOL.replace("_g", "_z"), "not found"),
}


def relocated(plain: bytes) -> bytes:
    """Return the patch with its relocations left to livepatch."""
    relocation = LivepatchRelocation(
        section=SECTION,
        symbol="klp_hidden_function",
        object=TARGET,
        stands_for="klp_target_g",
    )
    return with_livepatch_relocation(plain, relocation)


def renamed(module: bytes, before: str, after: str) -> bytes:
    """Return the module with another name, which is there once."""
    assert module.count(before.encode() + b"\0") == 1
    return module.replace(before.encode() + b"\0", after.encode() + b"\0")


def unmarked(module: bytes) -> bytes:
    """Return the module whose symbol is not marked as one of livepatch."""
    table: Any = ELFFile(io.BytesIO(module)).get_section_by_name(".symtab")
    (number,) = (n for n, each in enumerate(table.iter_symbols()) if each.name == SYMBOL)
    at = table["sh_offset"] + number * table["sh_entsize"] + 6
    return module[:at] + SHN_ABS.to_bytes(2, "little") + module[at + 2 :]


def emptied(module: bytes) -> bytes:
    """Return the module whose section of livepatch relocations has none of them."""
    elf: Any = ELFFile(io.BytesIO(module))
    number = elf.get_section_index(f".klp.rela.{TARGET}{SECTION}")
    at = elf["e_shoff"] + number * elf["e_shentsize"] + SH_SIZE
    return module[:at] + bytes(8) + module[at + 8 :]


@pytest.mark.behaviour("MO-14")
def test_malformed_relocations_are_refused(
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    view: Guestview,
    kernel_log: KernelLog,
    tmp_path: Path,
) -> None:
    """The load is EINVAL, with a line in the log, and nothing remains; a good one then loads."""
    good = relocated(sample_modules[PATCH].read_bytes())
    damaged = {
        name: (renamed(good, before, after), line) for name, (before, after, line) in NAMES.items()
    }
    damaged["unmarked-symbol"] = (unmarked(good), "is not marked as a livepatch symbol")
    livepatch.load_target(TARGET)
    module = tmp_path / f"{PATCH}.ko"
    for name, (content, line) in damaged.items():
        module.write_bytes(content)
        kernel_log.mark()
        with pytest.raises(ModuleRefused) as refused:
            livepatch.load(module)
        assert (name, refused.value.errno) == (name, errno.EINVAL)
        assert kernel_log.matching(line), name
        assert livepatch.patches() == []
        assert PATCH not in view.modules()
        assert view.target("f") == "original"
    module.write_bytes(good)
    livepatch.load(module, wait=True)
    assert livepatch.guest.read("/sys/kernel/klp_target/f") == "g original\n"


@pytest.mark.behaviour("MO-14")
def test_section_without_relocations(
    livepatch: Livepatch, sample_modules: Mapping[str, Path], view: Guestview, tmp_path: Path
) -> None:
    """An empty section of livepatch relocations is no mistake: nothing is relocated."""
    livepatch.load_target(TARGET)
    module = tmp_path / f"{PATCH}.ko"
    module.write_bytes(emptied(relocated(sample_modules[PATCH].read_bytes())))
    livepatch.load(module, wait=True)
    assert view.target("f") == "unrelocated"
