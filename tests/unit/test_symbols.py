# SPDX-License-Identifier: GPL-2.0-only
"""Functions of a module that GCC has cut in two: the part that it moved away has a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.tools.race.reproducers.module_text import ModuleText
from harness.vm.elf.module_info import open_module
from harness.vm.elf.symbols import cold_part, function_at, text_sections
from tests.unit.compiled_modules import HEAD, compiled

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
__attribute__((cold)) void seldom(void);
void often(void);
int warm(int n) { if (n) seldom(); often(); return 1; }
int whole(int n) { if (n) often(); often(); return 2; }
"""
COLD = ".text.unlikely"
NAME = "warm.cold"


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module with one function in two parts, and one in a single part."""
    return compiled(tmp_path, HEAD + SOURCE)


def test_a_part_that_was_moved_away_is_found(module: Path) -> None:
    """The symbol of that part is returned, and for a function in one part, None."""
    assert cold_part(module, "warm") == NAME
    assert cold_part(module, "whole") is None
    # Neither another function whose name begins alike, nor the part itself.
    assert cold_part(module, "war") is None
    assert cold_part(module, NAME) is None


def test_an_offset_is_one_of_a_section(module: Path) -> None:
    """The same offset of another section is another function."""
    elf = open_module(module).elf
    (symbol,) = (symbol for symbol in elf.symbols or () if symbol.name == NAME)
    at = symbol.value + 1
    named = function_at(module, at, COLD)
    assert named == f"{NAME}+0x1/{symbol.size:#x}"
    assert {".text", COLD} <= set(text_sections(module))
    assert function_at(module, at, ".text") != named
    assert function_at(module, symbol.value + symbol.size, COLD) is None
    assert function_at(module, at, ".text.there_is_none") is None


def test_an_address_in_such_a_part_is_named(module: Path) -> None:
    """An oops in the part that was moved away names it, though it is not in .text."""
    text, cold = 0xFFFFFFFFA0005000, 0xFFFFFFFFA0005800
    place = ModuleText(name="mod", file=module, sections={".text": text, COLD: cold}, size=0x1000)
    elf = open_module(module).elf
    (symbol,) = (symbol for symbol in elf.symbols or () if symbol.name == NAME)
    splat = f"RIP: 0010:0x{cold + symbol.value + 1:016x}\n"
    (named,) = place.names(splat)
    assert f" was {NAME}+0x1/" in named


def test_a_damaged_file_is_refused(module: Path, tmp_path: Path) -> None:
    """A file that is cut off is refused in a sentence."""
    path = tmp_path / "short.ko"
    path.write_bytes(module.read_bytes()[:500])
    with pytest.raises(UsageError, match="is cut off"):
        cold_part(path, "warm")
