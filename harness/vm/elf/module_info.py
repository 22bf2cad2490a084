# SPDX-License-Identifier: GPL-2.0-only
"""What a module file contains, read on the host with pyelftools.

The formats: Documentation/livepatch/module-elf-format.rst (.klp.rela sections, .klp.sym symbols),
include/linux/livepatch.h (struct klp_patch and below), include/linux/moduleparam.h (modinfo).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from harness.errors import UsageError
from harness.vm.elf.klp_structs import PatchContents, locate_patch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SHN_LIVEPATCH = 0xFF20
"""Section index of a symbol that the livepatch core resolves (include/uapi/linux/elf.h)."""

_SHF_ALLOC = 0x2
_HEADER_BYTES = 64
# MODULE_SIG_STRING, include/linux/module_signature.h.
_SIGNATURE = b"~Module signature appended~\n"
_COMPRESSED = {b"\xfd7zXZ": "unxz", b"(\xb5/\xfd": "unzstd", b"\x1f\x8b": "gunzip"}
_KLP_SECTION = re.compile(r"\.klp\.rela\.([^.]+)(\..+)\Z")
_KLP_SYMBOL = re.compile(r"\.klp\.sym\.([^.]+)\.(.+),(\d+)\Z")


@dataclass(frozen=True, kw_only=True)
class KlpRelocations:
    """A section ``.klp.rela.OBJECT.SECTION``: applied to ``section`` when the object is loaded."""

    object: str
    section: str


@dataclass(frozen=True, kw_only=True)
class KlpSymbol:
    """A symbol ``.klp.sym.OBJECT.NAME,SYMPOS`` that the livepatch core resolves."""

    object: str
    name: str
    sympos: int


@dataclass(frozen=True, kw_only=True)
class ModuleInfo:
    """A module file.

    ``patch`` is what the livepatch redirects; None when this is no livepatch, or when the module
    fills its structures at run time. ``undefined`` are symbols that
    the kernel or another module must export, ``exported`` those that this one exports. ``symbols``
    has the names that kallsyms would list for it; for each symbol of a name, in the order that
    sympos counts, whether ftrace can redirect it. ``licence`` is MODULE_LICENSE()'s text,
    ``signed`` whether a signature is appended; ``init_functions`` are freed after init.
    """

    path: Path
    name: str
    is_livepatch: bool
    vermagic: str
    depends: tuple[str, ...]
    parameters: tuple[str, ...]
    klp_relocations: tuple[KlpRelocations, ...]
    klp_symbols: tuple[KlpSymbol, ...]
    patch: PatchContents | None
    undefined: tuple[str, ...]
    exported: tuple[str, ...]
    symbols: Mapping[str, tuple[bool, ...]]
    licence: str = ""
    signed: bool = False
    init_functions: frozenset[str] = frozenset()


def read_module(path: Path) -> ModuleInfo:
    """Read a .ko file.

    Raises UsageError when it is missing, compressed, not ELF, cut off, of another machine, or no
    kernel module.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the module {path} cannot be read: {error.strerror}") from error
    _check_magic(path, content)
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            _check_header(path, elf, len(content))
            return _read(path, elf, signed=content.endswith(_SIGNATURE))
    except (
        # What pyelftools and this reader run into behind a damaged offset, size or link.
        *(ELFError, ConstructError, struct.error, OSError, ArithmeticError),
        *(ValueError, LookupError, TypeError, AttributeError, AssertionError),
    ) as error:
        raise UsageError(
            f"{path} is damaged: its ELF structure cannot be followed", hint="build it again"
        ) from error


def _check_magic(path: Path, content: bytes) -> None:
    for magic, command in _COMPRESSED.items():
        if content.startswith(magic):
            raise UsageError(f"{path} is compressed", hint=f"{command} it first")
    if not content:
        raise UsageError(f"{path} is empty", hint="build it again")
    if not content.startswith(b"\x7fELF"):
        raise UsageError(f"{path} is no kernel module: it is not an ELF file")
    if len(content) < _HEADER_BYTES:
        raise UsageError(f"{path} is cut off within its ELF header", hint="build it again")


def _check_header(path: Path, elf: ELFFile, size: int) -> None:
    machine = elf["e_machine"]
    if machine != "EM_X86_64" or elf.elfclass != 64:
        name = str(machine).removeprefix("EM_")
        raise UsageError(
            f"{path} is for another machine ({name}, {elf.elfclass} bits), not x86_64",
            hint="build it for x86_64",
        )
    table_end = elf["e_shoff"] + elf["e_shnum"] * elf["e_shentsize"]
    if table_end > size:
        raise UsageError(
            f"{path} is cut off: it has {size} bytes and its section table ends at {table_end}",
            hint="build it, or copy it, again",
        )
    if elf["e_type"] != "ET_REL":
        raise UsageError(f"{path} is no kernel module: it is a linked program or library")
    for section in elf.iter_sections():
        end = section["sh_offset"] + section["sh_size"]
        if section["sh_type"] != "SHT_NOBITS" and end > size:
            raise UsageError(
                f"{path} is cut off: its section {section.name} ends at {end} of {size} bytes",
                hint="build it, or copy it, again",
            )


def _read(path: Path, elf: ELFFile, *, signed: bool) -> ModuleInfo:
    modinfo = elf.get_section_by_name(".modinfo")
    table = elf.get_section_by_name(".symtab")
    if modinfo is None or not isinstance(table, SymbolTableSection):
        lacks = ".modinfo" if modinfo is None else "symbol table"
        raise UsageError(
            f"{path} is no kernel module: it has no {lacks}",
            hint="a .ko comes from modpost; an object file (.o) is not loaded",
        )
    fields = _modinfo(modinfo.data())
    is_livepatch = fields.get("livepatch", [""])[0].lower().startswith("y")
    layout = locate_patch(elf) if is_livepatch else None
    symbols = _Symbols(elf, table)
    return ModuleInfo(
        path=path,
        name=fields.get("name", [path.stem.replace("-", "_")])[0],
        is_livepatch=is_livepatch,
        vermagic=fields.get("vermagic", [""])[0].strip(),
        depends=tuple(name for name in fields.get("depends", [""])[0].split(",") if name),
        parameters=tuple(parm.partition(":")[0] for parm in fields.get("parmtype", [])),
        klp_relocations=tuple(_klp_relocations(elf)),
        klp_symbols=tuple(symbols.livepatch),
        patch=layout.contents if layout is not None else None,
        undefined=tuple(symbols.undefined),
        exported=tuple(symbols.exported),
        symbols=symbols.kallsyms(),
        licence=fields.get("license", [""])[0],
        signed=signed,
        init_functions=symbols.init_functions(),
    )


def _modinfo(data: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for entry in data.decode(errors="replace").split("\0"):
        name, equals, value = entry.partition("=")
        if equals:
            fields.setdefault(name, []).append(value)
    return fields


def _klp_relocations(elf: ELFFile) -> Iterator[KlpRelocations]:
    for section in elf.iter_sections():
        match = _KLP_SECTION.match(section.name)
        if match:
            yield KlpRelocations(object=match[1], section=match[2])


class _Symbols:
    """The symbol table, sorted by what the kernel makes of each symbol."""

    def __init__(self, elf: ELFFile, table: SymbolTableSection) -> None:
        self._elf = elf
        self._table = table
        self.undefined: list[str] = []
        self.exported: list[str] = []
        self.livepatch: list[KlpSymbol] = []
        self._own: list[_OwnSymbol] = []
        allocated = {
            number
            for number, section in enumerate(elf.iter_sections())
            if section["sh_flags"] & _SHF_ALLOC
        }
        for symbol in table.iter_symbols():
            if symbol.name:
                self._sort(symbol, allocated)

    def _sort(self, symbol: Any, allocated: set[int]) -> None:
        name, where = symbol.name, symbol["st_shndx"]
        kind = symbol["st_info"]["type"]
        if where == SHN_LIVEPATCH:
            match = _KLP_SYMBOL.match(name)
            if match:
                self.livepatch.append(
                    KlpSymbol(object=match[1], name=match[2], sympos=int(match[3]))
                )
        elif where == "SHN_UNDEF":
            if symbol["st_info"]["bind"] != "STB_WEAK":
                self.undefined.append(name)
        elif name.startswith("__ksymtab_"):
            self.exported.append(name.removeprefix("__ksymtab_"))
        elif where in allocated and kind not in ("STT_SECTION", "STT_FILE"):
            size = symbol["st_size"] if kind == "STT_FUNC" else 0
            self._own.append(
                _OwnSymbol(name=name, section=where, start=symbol["st_value"], size=size)
            )

    def kallsyms(self) -> Mapping[str, tuple[bool, ...]]:
        sites = self._call_sites()
        found: dict[str, list[bool]] = {}
        for symbol in self._own:
            end = symbol.start + symbol.size
            traceable = any(symbol.start <= site < end for site in sites.get(symbol.section, ()))
            found.setdefault(symbol.name, []).append(traceable)
        return {name: tuple(flags) for name, flags in found.items()}

    def init_functions(self) -> frozenset[str]:
        """Return the functions in the sections that are freed when init has returned."""
        return frozenset(
            symbol.name
            for symbol in self._own
            if self._elf.get_section(symbol.section).name.startswith(".init")
        )

    def _call_sites(self) -> Mapping[int, frozenset[int]]:
        """Return, per section, the addresses in __mcount_loc: what ftrace can redirect."""
        relocations = self._elf.get_section_by_name(".rela__mcount_loc")
        sites: dict[int, set[int]] = {}
        if isinstance(relocations, RelocationSection):
            for relocation in relocations.iter_relocations():
                symbol = self._table.get_symbol(relocation["r_info_sym"])
                if isinstance(symbol["st_shndx"], int):
                    address = symbol["st_value"] + relocation["r_addend"]
                    sites.setdefault(symbol["st_shndx"], set()).add(address)
        return {section: frozenset(addresses) for section, addresses in sites.items()}


@dataclass(frozen=True, kw_only=True)
class _OwnSymbol:
    """A symbol that the module defines. ``size`` is in bytes, 0 for what is no function."""

    name: str
    section: int
    start: int
    size: int
