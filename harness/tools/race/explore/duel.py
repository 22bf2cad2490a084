# SPDX-License-Identifier: GPL-2.0-only
"""The memory that klp-duel shares with the host: guest-programs/duel.h has the same offsets."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.vm.guest.gdb_client import GdbClient

PROGRAM = "klp-duel"
A_NAME, B_NAME = b"klp-duel-a\0", b"klp-duel-b\0"
"""The names that the tasks of A and B have when they begin, with the byte that ends them."""
READY = r"klp-duel: ready (0x[0-9a-f]+)\n"
FAILED = r"klp-duel: failed: (.*?);? *\n"
ENDED = "klp-duel: round {} has ended"
STEPS = 8
"""The most that A, or B, can do."""

_PAGE, _PAGES = 4096, 3
_MASK = (1 << 64) - 1
_PLACES, _PLACE_SIZE = 0x6B6C70010000, 16
_ORDERS = (0, 1024, 2048)
_ORDER_ROOM = 1023
_MODULES_AT, _MODULES_OF_BOTH, _EARLIER = 3072, 8, 7
_MODULE = struct.Struct("<48sQQ")
_EARLIER_AT = _MODULES_AT + _MODULES_OF_BOTH * _MODULE.size
_PROBLEMS, _STATE, _FINDING_ROOM = 0, 2040, 2040


class Word:
    """Offsets of the numbers in the first page."""

    ARM, A_READY, B_READY, A_GO, B_GO, A_DONE, B_DONE, E_GO, E_DONE, STOP, BAD = range(0, 88, 8)
    CHILD, A_ERRORS, B_ERRORS, HOG, SETTLE_GO, SETTLE_DONE = 88, 120, 184, 248, 256, 264
    RETRY_GO, RETRIES, CHILD_CPU, HELD, ROUNDS, AGAIN = 272, 280, 288, 296, 304, 312


class Place:
    """Addresses in user mode at which the host has breakpoints, and the loop there."""

    A_END, B_BEGIN, E_END, HOG, SPIN, A_WAIT = range(
        _PLACES, _PLACES + 6 * _PLACE_SIZE, _PLACE_SIZE
    )
    SIZE = _PLACE_SIZE


@dataclass(frozen=True)
class DuelPages:
    """Physical addresses of the three pages: numbers, orders, findings."""

    words: int
    orders: int
    findings: int


Modules = dict[str, dict[str, int]]
"""Names of modules, and where the sections of each are."""


def saved_modules(ram_path: str, pages: DuelPages) -> Modules:
    """Return the modules that were loaded before A and B began, from a guest's RAM."""
    with Path(ram_path).open("rb") as file:
        file.seek(pages.orders + _EARLIER_AT)
        return _modules(file.read(_MODULE.size * _EARLIER))


def _modules(data: bytes) -> Modules:
    return {
        name.partition(b"\0")[0].decode(): {".text": text, ".data": at}
        for name, text, at in _MODULE.iter_unpack(data)
        if text
    }


def find_pages(ram_path: str, magic: int) -> DuelPages:
    """Return where the pages are in a guest's RAM; raises HarnessError when they are not there."""
    with Path(ram_path).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as ram:
        return DuelPages(*(_find_page(ram, magic + number) for number in range(_PAGES)))


def _find_page(ram: mmap.mmap, magic: int) -> int:
    wanted = magic.to_bytes(8, "little") + (magic ^ _MASK).to_bytes(8, "little")
    at = ram.find(wanted)
    while at >= 0 and at % _PAGE != _PAGE - len(wanted):
        at = ram.find(wanted, at + 1)
    if at < 0:
        raise HarnessError("the pages of klp-duel are not in the guest's memory")
    return at + len(wanted) - _PAGE


class Duel:
    """The words that klp-duel and the harness exchange while the guest stands still."""

    def __init__(self, gdb: GdbClient, pages: DuelPages) -> None:
        self._gdb = gdb
        self._pages = pages

    def address(self, word: int) -> int:
        """Return the physical address of one of the numbers."""
        return self._pages.words + word

    def get(self, word: int) -> int:
        """Return one of the numbers."""
        return int.from_bytes(self._gdb.read_physical(self._pages.words + word, 8), "little")

    def set(self, word: int, value: int) -> None:
        """Change one of the numbers."""
        self._gdb.write_physical(self._pages.words + word, value.to_bytes(8, "little"))

    def order(self, a: tuple[str, ...], b: tuple[str, ...], after: tuple[str, ...]) -> None:
        """Say what A and B do, and what is done after both."""
        for at, lines in zip(_ORDERS, (a, b, after), strict=True):
            data = "\n".join(lines).encode()
            if len(data) > _ORDER_ROOM or len(lines) > STEPS:
                raise HarnessError("these are too many steps for klp-duel")
            self._gdb.write_physical(self._pages.orders + at, data + b"\0")

    def errors(self, word: int, count: int) -> tuple[int, ...]:
        """Return the errno of each of so many steps, 0 for success."""
        data = self._gdb.read_physical(self._pages.words + word, 8 * count)
        return tuple(int.from_bytes(data[at : at + 8], "little") for at in range(0, 8 * count, 8))

    def modules(self) -> Modules:
        """Return the modules that A and B have loaded, and where their sections are."""
        size = _MODULE.size * _MODULES_OF_BOTH
        return _modules(self._gdb.read_physical(self._pages.orders + _MODULES_AT, size))

    def earlier_modules(self) -> Modules:
        """Return those that were loaded before A and B began."""
        at = self._pages.orders + _EARLIER_AT
        return _modules(self._gdb.read_physical(at, _MODULE.size * _EARLIER))

    def child(self) -> tuple[int, ...]:
        """Return the patch states that a forked child has read."""
        data = self._gdb.read_physical(self._pages.words + Word.CHILD, 32)
        return tuple(
            int.from_bytes(data[at : at + 8], "little", signed=True) for at in range(0, 32, 8)
        )

    def problems(self) -> tuple[str, ...]:
        """Return what was not as it has to be."""
        return tuple(each.strip() for each in self._text(_PROBLEMS).split(";") if each.strip())

    def state(self) -> str:
        """Return which patches, modules and hooks there were in the end."""
        return self._text(_STATE)

    def _text(self, at: int) -> str:
        data = self._gdb.read_physical(self._pages.findings + at, _FINDING_ROOM)
        return data.partition(b"\0")[0].decode(errors="replace")
