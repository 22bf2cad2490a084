# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel image offers to a livepatch: its symbols, and which functions can be traced."""

from __future__ import annotations

import bisect
import functools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from harness.errors import HarnessError

if TYPE_CHECKING:
    from pathlib import Path

_SYMBOL = struct.Struct("<IBBHQQ")
_STT_FUNC = 2
_STT_SECTION = 3
_STT_FILE = 4
_SHN_UNDEF = 0
_SHN_LORESERVE = 0xFF00


@dataclass(frozen=True, slots=True)
class KernelSymbol:
    """A symbol of vmlinux. ``size`` is in bytes."""

    address: int
    size: int
    is_function: bool


class Vmlinux:
    """The symbol table of a vmlinux, in kallsyms' order, and ftrace's table of call sites."""

    def __init__(
        self,
        symbols: dict[str, tuple[KernelSymbol, ...]],
        call_sites: tuple[int, ...],
        vermagic: str | None,
    ) -> None:
        self._symbols = symbols
        self._call_sites = call_sites
        self.vermagic = vermagic
        """The string that a module must carry, or None when the image does not show it."""

    def named(self, name: str) -> tuple[KernelSymbol, ...]:
        """Return all symbols of a name, by address: sympos 1 is the first of them.

        That is the order of kallsyms (scripts/kallsyms.c sorts by address), in which
        klp_find_callback() in kernel/livepatch/core.c counts.
        """
        return self._symbols.get(name, ())

    def is_traceable(self, symbol: KernelSymbol) -> bool:
        """Return whether ftrace has a call site at the function's entry."""
        number = bisect.bisect_left(self._call_sites, symbol.address)
        end = symbol.address + max(symbol.size, 1)
        return number < len(self._call_sites) and self._call_sites[number] < end

    def function_names(self) -> tuple[str, ...]:
        """Return the names of all functions, for suggestions."""
        return tuple(
            name
            for name, symbols in self._symbols.items()
            if any(symbol.is_function for symbol in symbols)
        )

    def traceable_functions(self) -> frozenset[str]:
        """Return the names of functions of which at least one can be traced."""
        return frozenset(
            name
            for name, symbols in self._symbols.items()
            if any(symbol.is_function and self.is_traceable(symbol) for symbol in symbols)
        )


def read_vmlinux(path: Path) -> Vmlinux:
    """Read a vmlinux, once a process for each file as it is.

    Raises HarnessError when it cannot be read.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror}") from error
    except (ELFError, ConstructError, struct.error, ValueError, IndexError) as error:
        raise HarnessError(f"{path} is no readable kernel image: {error}") from error


# One cache for the process: reading a vmlinux takes a second, and each check of each module needs
# it. The key has the file's time and size, so that a rebuilt one is read again.
@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime_ns: int, _size: int) -> Vmlinux:
    with path.open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise ELFError("it has no symbol table")
        names: bytes = elf.get_section(table["sh_link"]).data()
        symbols = _symbols(table.data(), names)
        return Vmlinux(symbols, _call_sites(elf, symbols), _vermagic(elf, symbols))


def _symbols(table: bytes, names: bytes) -> dict[str, tuple[KernelSymbol, ...]]:
    found: dict[str, list[KernelSymbol]] = {}
    for name_at, info, _other, section, address, size in _SYMBOL.iter_unpack(table):
        kind = info & 0xF
        if section == _SHN_UNDEF or kind in (_STT_SECTION, _STT_FILE) or not name_at:
            continue
        if section >= _SHN_LORESERVE and kind == _STT_FUNC:
            continue
        name = names[name_at : names.index(b"\0", name_at)].decode(errors="replace")
        found.setdefault(name, []).append(KernelSymbol(address, size, kind == _STT_FUNC))
    return {
        name: tuple(sorted(symbols, key=lambda symbol: symbol.address))
        for name, symbols in found.items()
    }


def _bytes_at(elf: ELFFile, address: int, size: int) -> bytes | None:
    for section in elf.iter_sections():
        start = section["sh_addr"]
        if start and start <= address and address + size <= start + section["sh_size"]:
            if section["sh_type"] == "SHT_NOBITS":
                return None
            elf.stream.seek(section["sh_offset"] + address - start)
            data: bytes = elf.stream.read(size)
            return data
    return None


def _call_sites(elf: ELFFile, symbols: dict[str, tuple[KernelSymbol, ...]]) -> tuple[int, ...]:
    try:
        start = symbols["__start_mcount_loc"][0].address
        stop = symbols["__stop_mcount_loc"][0].address
    except KeyError:
        return ()
    data = _bytes_at(elf, start, stop - start) or b""
    return tuple(sorted(site for (site,) in struct.iter_unpack("<Q", data) if site))


def _vermagic(elf: ELFFile, symbols: dict[str, tuple[KernelSymbol, ...]]) -> str | None:
    # static const char vermagic[], kernel/module/main.c (before 5.18 kernel/module.c).
    for symbol in symbols.get("vermagic", ()):
        data = _bytes_at(elf, symbol.address, symbol.size)
        if data:
            return data.partition(b"\0")[0].decode(errors="replace").strip()
    return None
