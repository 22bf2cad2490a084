# SPDX-License-Identifier: GPL-2.0-only
"""What a module file contains, read on the host.

The formats: Documentation/livepatch/module-elf-format.rst (.klp.rela sections, .klp.sym symbols),
include/linux/livepatch.h (struct klp_patch and below), include/linux/moduleparam.h (modinfo).
"""

from __future__ import annotations

import bisect
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import MIB, read_file, shown
from harness.vm.elf.elf_file import (
    ALLOC,
    HEADER_BYTES,
    REL,
    STB_WEAK,
    STT_FILE,
    STT_FUNC,
    STT_SECTION,
    CutOffElf,
    DamagedElf,
    ElfFile,
    OtherMachine,
)
from harness.vm.elf.klp_structs import PatchContents, locate_patch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.vm.elf.elf_file import Section, Symbol

SHN_LIVEPATCH = 0xFF20
"""Section index of a symbol that the livepatch core resolves (include/uapi/linux/elf.h)."""

# The largest of Debian's modules has 30 MiB, with debug information ten times as much.
MOST_BYTES = 1024 * MIB
# MODULE_SIG_STRING, include/linux/module_signature.h.
_SIGNATURE = b"~Module signature appended~\n"
_COMPRESSED = {b"\xfd7zXZ": "unxz", b"(\xb5/\xfd": "unzstd", b"\x1f\x8b": "gunzip"}
_KLP_SECTION = re.compile(r"\.klp\.rela\.([^.]+)(\..+)\Z")
_KLP_SYMBOL = re.compile(r"\.klp\.sym\.([^.]+)\.(.+),([0-9]{1,9})\Z")
# MODULE_NAME_LEN is 56 (include/linux/module.h); the name is a folder's in /sys/module.
_NAME = re.compile(r"[\w.+-]{1,63}\Z", re.ASCII)


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


@dataclass(frozen=True, kw_only=True)
class ModuleFile:
    """A module's file as it was opened: its sections and symbols, and that of .modinfo."""

    elf: ElfFile
    modinfo: Section
    symbols: Sequence[Symbol]
    signed: bool


def open_module(path: Path) -> ModuleFile:
    """Read a .ko file and check its structure; what follows from it is `read_module`'s.

    Raises UsageError when it is missing, no file, compressed, not ELF, cut off, damaged, of another
    machine, or no kernel module.
    """
    content = read_file(path, "the module", at_most=MOST_BYTES)
    _check_magic(path, content)
    with readable(path):
        elf = ElfFile(content)
        if elf.kind != REL:
            raise UsageError(f"{path} is no kernel module: it is a linked program or library")
        modinfo, symbols = elf.named(".modinfo"), elf.symbols
        if modinfo is None or symbols is None:
            lacks = ".modinfo" if modinfo is None else "symbol table"
            raise UsageError(
                f"{path} is no kernel module: it has no {lacks}",
                hint="a .ko comes from modpost; an object file (.o) is not loaded",
            )
        signed = content.endswith(_SIGNATURE)
        return ModuleFile(elf=elf, modinfo=modinfo, symbols=symbols, signed=signed)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a damaged or foreign ELF file raises into the sentence of a UsageError."""
    try:
        yield
    except OtherMachine as error:
        raise UsageError(
            f"{path} is for another machine ({error}), not x86_64", hint="build it for x86_64"
        ) from error
    except CutOffElf as error:
        raise UsageError(
            f"{path} is cut off: {error}", hint="build it, or copy it, again"
        ) from error
    except DamagedElf as error:
        raise UsageError(
            f"{path} is damaged: {shown(error)}", hint="build it, or copy it, again"
        ) from error


def read_module(path: Path) -> ModuleInfo:
    """Read a .ko file.

    Raises UsageError as `open_module` does, and for what its structures and names cannot be.
    """
    opened = open_module(path)
    with readable(path):
        return _read(path, opened)


def _check_magic(path: Path, content: bytes) -> None:
    for magic, command in _COMPRESSED.items():
        if content.startswith(magic):
            raise UsageError(f"{path} is compressed", hint=f"{command} it first")
    if not content:
        raise UsageError(f"{path} is empty", hint="build it again")
    if not content.startswith(b"\x7fELF"):
        raise UsageError(f"{path} is no kernel module: it is not an ELF file")
    if len(content) < HEADER_BYTES:
        raise UsageError(f"{path} is cut off within its ELF header", hint="build it again")


def _read(path: Path, opened: ModuleFile) -> ModuleInfo:
    elf = opened.elf
    fields = _modinfo(elf.data(opened.modinfo))
    is_livepatch = fields.get("livepatch", [""])[0].lower().startswith("y")
    layout = locate_patch(elf) if is_livepatch else None
    symbols = _Symbols(elf, opened.symbols)
    name = fields.get("name", [path.stem.replace("-", "_")])[0]
    if not _NAME.match(name):
        raise DamagedElf(f"its .modinfo has {name!r} for its name")
    return ModuleInfo(
        path=path,
        name=name,
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
        signed=opened.signed,
        init_functions=symbols.init_functions(),
    )


def _modinfo(data: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for entry in data.decode(errors="replace").split("\0"):
        name, equals, value = entry.partition("=")
        if equals:
            fields.setdefault(name, []).append(value)
    return fields


def _klp_relocations(elf: ElfFile) -> Iterator[KlpRelocations]:
    for section in elf.sections:
        match = _KLP_SECTION.match(section.name)
        if match:
            yield KlpRelocations(object=match[1], section=match[2])


class _Symbols:
    """The symbol table, sorted by what the kernel makes of each symbol."""

    def __init__(self, elf: ElfFile, symbols: Sequence[Symbol]) -> None:
        self._elf = elf
        self.undefined: list[str] = []
        self.exported: list[str] = []
        self.livepatch: list[KlpSymbol] = []
        self._own: list[Symbol] = []
        for symbol in symbols:
            if symbol.name:
                self._sort(symbol)

    def _sort(self, symbol: Symbol) -> None:
        if symbol.section == SHN_LIVEPATCH:
            match = _KLP_SYMBOL.match(symbol.name)
            if match:
                self.livepatch.append(
                    KlpSymbol(object=match[1], name=match[2], sympos=int(match[3]))
                )
        elif not symbol.section:
            if symbol.bind != STB_WEAK:
                self.undefined.append(symbol.name)
        elif symbol.name.startswith("__ksymtab_"):
            self.exported.append(symbol.name.removeprefix("__ksymtab_"))
        elif (
            symbol.defined_in is not None
            and symbol.kind not in (STT_SECTION, STT_FILE)
            and self._elf.sections[symbol.section].flags & ALLOC
        ):
            self._own.append(symbol)

    def kallsyms(self) -> Mapping[str, tuple[bool, ...]]:
        sites = self._call_sites()
        found: dict[str, list[bool]] = {}
        for symbol in self._own:
            in_section = sites.get(symbol.section, [])
            first = bisect.bisect_left(in_section, symbol.value)
            end = symbol.value + (symbol.size if symbol.kind == STT_FUNC else 0)
            traceable = first < len(in_section) and in_section[first] < end
            found.setdefault(symbol.name, []).append(traceable)
        return {name: tuple(flags) for name, flags in found.items()}

    def init_functions(self) -> frozenset[str]:
        """Return the functions in the sections that are freed when init has returned."""
        return frozenset(
            symbol.name
            for symbol in self._own
            if self._elf.sections[symbol.section].name.startswith(".init")
        )

    def _call_sites(self) -> Mapping[int, Sequence[int]]:
        """Return, per section, the addresses in __mcount_loc in their order: ftrace's."""
        table = self._elf.named(".rela__mcount_loc")
        sites: dict[int, set[int]] = {}
        for relocation in self._elf.tables.get(table.number, ()) if table is not None else ():
            section = relocation.symbol.defined_in
            if section is not None:
                sites.setdefault(section, set()).add(relocation.symbol.value + relocation.addend)
        return {section: sorted(addresses) for section, addresses in sites.items()}
