# SPDX-License-Identifier: GPL-2.0-only
"""klp-duel's memory has one layout, here and in guest-programs/duel.h."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, cast

from harness.resources import Resource, resource_dir
from harness.tools.race.explore import duel
from harness.tools.race.explore.duel import Duel, DuelPages, Place, Word, saved_modules

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.guest.gdb_client import GdbClient

WORDS = {
    "arm": Word.ARM, "a_ready": Word.A_READY, "b_ready": Word.B_READY, "a_go": Word.A_GO,
    "b_go": Word.B_GO, "a_done": Word.A_DONE, "b_done": Word.B_DONE, "e_go": Word.E_GO,
    "e_done": Word.E_DONE, "stop": Word.STOP, "bad": Word.BAD, "child": Word.CHILD,
    "a_error": Word.A_ERRORS, "b_error": Word.B_ERRORS, "hog": Word.HOG,
    "settle_go": Word.SETTLE_GO, "settle_done": Word.SETTLE_DONE, "retry_go": Word.RETRY_GO,
    "retries": Word.RETRIES, "child_cpu": Word.CHILD_CPU, "rounds": Word.ROUNDS,
    "again": Word.AGAIN, "held": Word.HELD,
}  # fmt: skip
PLACES = {
    "DUEL_A_END": Place.A_END, "DUEL_B_BEGIN": Place.B_BEGIN,
    "DUEL_E_END": Place.E_END, "DUEL_HOG": Place.HOG, "DUEL_SPIN": Place.SPIN,
    "DUEL_A_WAIT": Place.A_WAIT,
}  # fmt: skip


def test_numbers_orders_and_places_are_where_the_program_has_them(tmp_path: Path) -> None:
    """A number at another offset would be a step that never ends, or a wrong result."""
    lines = [f'printf("%zu\\n", offsetof(struct duel_words, {name}));' for name in WORDS]
    lines += [f'printf("%lu\\n", DUEL_PLACES + {name} * 16L);' for name in PLACES]
    lines += [
        f'printf("%zu\\n", offsetof(struct duel_orders, {name}));'
        for name in ("a", "b", "after", "a_modules", "earlier")
    ]
    sizes = ("struct duel_words", "struct duel_orders", "struct duel_findings")
    lines += [f'printf("%zu\\n", sizeof({name}));' for name in sizes]
    lines.append('printf("%d\\n", 2 * DUEL_MODULES);')
    lines.append('printf("%d\\n", DUEL_EARLIER);')
    source = tmp_path / "layout.c"
    source.write_text(
        '#include <stddef.h>\n#include <stdio.h>\n#include "duel.h"\n'
        f"int main(void)\n{{\n{chr(10).join(lines)}\nreturn 0;\n}}\n"
    )
    folder = resource_dir(Resource.GUEST_PROGRAMS)
    subprocess.run(["gcc", f"-I{folder}", "-o", tmp_path / "layout", source], check=True)
    printed = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True)
    found = [int(line) for line in printed.stdout.split()]
    expected = [*WORDS.values(), *PLACES.values(), 0, 1024, 2048, 3072, 3072 + 8 * 64]
    assert found == [*expected, 4096, 4096, 4096, 8, 7]


class Memory:
    """A guest's memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_physical(self, address: int, size: int) -> bytes:
        return self.data[address : address + size]


def module(name: str, text: int, data: int) -> bytes:
    return name.encode().ljust(48, b"\0") + text.to_bytes(8, "little") + data.to_bytes(8, "little")


def test_modules_by_who_has_loaded_them(tmp_path: Path) -> None:
    """One that is gone again is nowhere."""
    own = module("klp_of_a", 0x100, 0x200).ljust(4 * 64, b"\0") + module("klp_gone", 0, 0)
    page = bytes(3072) + own.ljust(8 * 64, b"\0") + module("klp_before", 0x300, 0x400)
    page = page.ljust(4096, b"\0")
    pages = DuelPages(0, 4096, 8192)
    memory = bytes(4096) + page
    of_guest = Duel(cast("GdbClient", Memory(memory)), pages)
    assert of_guest.modules() == {"klp_of_a": {".text": 0x100, ".data": 0x200}}
    assert of_guest.earlier_modules() == {"klp_before": {".text": 0x300, ".data": 0x400}}
    ram = tmp_path / "ram"
    ram.write_bytes(memory)
    assert saved_modules(str(ram), pages) == of_guest.earlier_modules()
    assert duel.ENDED.format(3) == "klp-duel: round 3 has ended"
