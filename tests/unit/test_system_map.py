# SPDX-License-Identifier: GPL-2.0-only
"""System.map and kallsyms as the symbols of a kernel, in good order and damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.vm.elf.system_map import read_system_map

if TYPE_CHECKING:
    from pathlib import Path

LINES = """\
ffffffff81000010 t twice
ffffffff81000000 T twice
ffffffff81000020 D data
0000000000000000 A fixed_percpu_data
ffffffff81000030 T named.isra.0
"""


def test_names_and_their_order(tmp_path: Path) -> None:
    """By address, as kallsyms counts them; data is no function."""
    path = tmp_path / "System.map"
    path.write_text(LINES)
    image = read_system_map(path)
    assert [each.address & 0xFF for each in image.named("twice")] == [0x00, 0x10]
    assert image.function_names() == ("twice", "named.isra.0")
    assert image.named("data")
    assert image.vermagic is None
    assert not image.knows_call_sites


@pytest.mark.parametrize(
    ("damage", "number"),
    [("ffffffff8100", 6), ("ffffffff81000040 T", 6), ("zz", 6), ("ffffffff81000040 T a b", 6)],
)
def test_a_line_that_is_no_symbol(damage: str, number: int, tmp_path: Path) -> None:
    """A file that was cut off is named, with the line; no name is missed silently."""
    path = tmp_path / "System.map"
    path.write_text(LINES + damage)
    with pytest.raises(HarnessError, match=f"is no System.map: its line {number} is no symbol"):
        read_system_map(path)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """The cache was cleared under the run."""
    with pytest.raises(HarnessError, match="cannot be read"):
        read_system_map(tmp_path / "none")
