# SPDX-License-Identifier: GPL-2.0-only
"""Livepatch relocations are written as the reader of modules, and so the kernel, expects them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.vm.elf.module_info import read_module
from harness.vm.elf.relocation import LivepatchRelocation, with_livepatch_relocation
from harness.vm.host.process import run

SOURCE = """
static const char info[] __attribute__((section(".modinfo"), used, aligned(1))) = "name=mod";
extern char __this_module[];
int hidden(void) __attribute__((weak));
int (*pointer)(void) __attribute__((section(".data.pointer"))) = hidden;
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """An object file with a pointer to a function that nobody defines."""
    (tmp_path / "mod.c").write_text(SOURCE)
    command = ["gcc", "-fno-pic", "-c", "mod.c", "-o", "mod.ko"]
    run(command, deadline=Deadline.after(30), cwd=tmp_path)
    return tmp_path / "mod.ko"


def _relocation(section: str = ".data.pointer", symbol: str = "hidden") -> LivepatchRelocation:
    return LivepatchRelocation(
        section=section, symbol=symbol, object="target", stands_for="its_function", sympos=2
    )


def test_relocation_is_left_to_livepatch(module: Path) -> None:
    """The relocation is one of livepatch, for that object and symbol, and no ordinary one."""
    before = read_module(module)
    assert before.klp_relocations == ()
    module.write_bytes(with_livepatch_relocation(module.read_bytes(), _relocation()))
    after = read_module(module)
    (made,) = after.klp_relocations
    assert (made.object, made.section) == ("target", ".data.pointer")
    (symbol,) = after.klp_symbols
    assert (symbol.object, symbol.name, symbol.sympos) == ("target", "its_function", 2)


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        (_relocation(section=".data.other"), "section .rela.data.other"),
        (_relocation(symbol="nobody"), "symbol nobody"),
    ],
)
def test_what_is_not_there(module: Path, wanted: LivepatchRelocation, missing: str) -> None:
    """A section or a symbol that the module does not have is named."""
    with pytest.raises(ValueError, match=missing):
        with_livepatch_relocation(module.read_bytes(), wanted)
