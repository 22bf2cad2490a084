# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel image offers to a livepatch: its symbols, and which functions can be traced."""

from __future__ import annotations

import bisect
import contextlib
import functools
import os
import re
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.inputs import shown
from harness.vm.elf.elf_file import (
    SHN_LORESERVE,
    STT_FILE,
    STT_FUNC,
    STT_SECTION,
    DamagedElf,
    ElfFile,
    OtherMachine,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CALL_OR_JUMP = re.compile(rb"(?=([\xe8\xe9]|\x0f[\x80-\x8f]))", re.DOTALL)


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
        call_sites: tuple[int, ...] | None,
        vermagic: str | None,
    ) -> None:
        self._symbols = symbols
        self._call_sites = call_sites or ()
        self.knows_call_sites = call_sites is not None
        """Whether it is known which functions can be traced; without, all are said to be."""
        self.vermagic = vermagic
        """The string that a module must carry, or None when the image does not show it."""

    def named(self, name: str) -> tuple[KernelSymbol, ...]:
        """Return all symbols of a name, by address: sympos 1 is the first of them.

        That is the order of kallsyms (scripts/kallsyms.c sorts by address), in which
        klp_find_callback() in kernel/livepatch/core.c counts.
        """
        return self._symbols.get(name, ())

    def names_at(self, address: int) -> tuple[str, ...]:
        """Return the names of the functions that begin at an address."""
        return self._by_address.get(address, ())

    @functools.cached_property
    def _by_address(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, tuple[str, ...]] = {}
        for name, symbols in self._symbols.items():
            for symbol in symbols:
                if symbol.is_function:
                    found[symbol.address] = (*found.get(symbol.address, ()), name)
        return found

    def function_ranges(self) -> list[tuple[int, int, str]]:
        """Return address, size and name of each function, by address."""
        return sorted(
            (symbol.address, symbol.size, name)
            for name, symbols in self._symbols.items()
            for symbol in symbols
            if symbol.is_function
        )

    def is_traceable(self, symbol: KernelSymbol) -> bool:
        """Return whether ftrace has a call site at the function's entry, as far as it is known."""
        if not self.knows_call_sites:
            return True
        number = bisect.bisect_left(self._call_sites, symbol.address)
        end = symbol.address + max(symbol.size, 1)
        return number < len(self._call_sites) and self._call_sites[number] < end

    def names(self) -> tuple[str, ...]:
        """Return the names of all symbols."""
        return tuple(self._symbols)

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
    with _readable(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise HarnessError(f"{path} is no readable kernel image: it is no file")
        return _read(path, status.st_mtime_ns, status.st_size)


def called_from(path: Path, symbol: KernelSymbol) -> tuple[int, ...]:
    """Return the addresses that a function of a vmlinux may call or jump to, in its order.

    The code is not disassembled: all bytes count that look like a call or a jump with a distance of
    four bytes. Raises HarnessError when the file cannot be read.
    """
    with _readable(path), path.open("rb", buffering=0) as file:
        code = _bytes_at(ElfFile(_OnDisk(file.fileno())), symbol.address, symbol.size) or b""
    found = []
    for match in _CALL_OR_JUMP.finditer(code):
        at = match.end(1)
        if at + 4 <= len(code):
            distance = int.from_bytes(code[at : at + 4], "little", signed=True)
            found.append(symbol.address + at + 4 + distance)
    return tuple(found)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise HarnessError for what is wrong with the file."""
    try:
        yield
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror}") from error
    except (DamagedElf, OtherMachine) as error:
        raise HarnessError(
            f"{path} is no readable kernel image: {shown(error)}", hint="build the kernel again"
        ) from error


class _OnDisk:
    """A file's content, read when a part is asked for: a vmlinux has up to 1 GiB of DWARF."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, _ = wanted.indices(self._size)
        parts = []
        while start < stop:
            part = os.pread(self._descriptor, stop - start, start)
            if not part:
                raise DamagedElf("it became shorter while it was read")
            parts.append(part)
            start += len(part)
        return b"".join(parts)


# One cache for the process: reading a vmlinux takes a second, and each check of each module needs
# it. The key has the file's time and size, so that a rebuilt one is read again.
@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime_ns: int, _size: int) -> Vmlinux:
    with path.open("rb", buffering=0) as file:
        elf = ElfFile(_OnDisk(file.fileno()))
        symbols = _symbols(elf)
        return Vmlinux(symbols, _call_sites(elf, symbols), _vermagic(elf, symbols))


def _symbols(elf: ElfFile) -> dict[str, tuple[KernelSymbol, ...]]:
    if elf.symbols is None:
        raise DamagedElf("it has no symbol table")
    found: dict[str, list[KernelSymbol]] = {}
    for name, kind, _, section, address, size in elf.symbols:
        if not section or kind in (STT_SECTION, STT_FILE) or not name:
            continue
        if section >= SHN_LORESERVE and kind == STT_FUNC:
            continue
        found.setdefault(name, []).append(KernelSymbol(address, size, kind == STT_FUNC))
    return {
        name: tuple(sorted(symbols, key=lambda symbol: symbol.address))
        for name, symbols in found.items()
    }


def _bytes_at(elf: ElfFile, address: int, size: int) -> bytes | None:
    for section in elf.sections:
        start = section.address
        if start and start <= address and address + size <= start + section.size:
            return elf.bytes_at(section, address - start, size) if section.in_file else None
    return None


def _call_sites(
    elf: ElfFile, symbols: dict[str, tuple[KernelSymbol, ...]]
) -> tuple[int, ...] | None:
    """Return the addresses in ftrace's table; None where a file of debug information has none."""
    try:
        start = symbols["__start_mcount_loc"][0].address
        stop = symbols["__stop_mcount_loc"][0].address
    except KeyError:
        return ()
    data = _bytes_at(elf, start, stop - start)
    if data is None:
        return None
    if len(data) % 8:
        raise DamagedElf("its table of call sites ends within one")
    return tuple(sorted(site for (site,) in struct.iter_unpack("<Q", data) if site))


def _vermagic(elf: ElfFile, symbols: dict[str, tuple[KernelSymbol, ...]]) -> str | None:
    # static const char vermagic[], kernel/module/main.c (before 5.18 kernel/module.c).
    for symbol in symbols.get("vermagic", ()):
        data = _bytes_at(elf, symbol.address, symbol.size)
        if data:
            return data.partition(b"\0")[0].decode(errors="replace").strip()
    return None
