# SPDX-License-Identifier: GPL-2.0-only
"""Files of a kernel compiled once more with -g: line numbers without another kernel.

Kbuild keeps the command of each object beside it. The same command with -g makes the same code:
each section is compared with the image's, so a line is never that of other code.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import CommandFailed, HarnessError, UsageError
from harness.vm.elf.elf_file import EXEC, STT_FUNC, DamagedElf, ElfFile
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.deadline import Deadline
    from harness.observer.image import Image
    from harness.vm.kernel.kernel import Kernel

DEFAULT_FILES = ("kernel/livepatch",)

_COMPILE_S = 120.0
# DWARF 5 of gcc makes addr2line of binutils 2.40 take a header for the file that includes it.
_DEBUG = ("-g", "-gdwarf-4")
_COMMAND = re.compile(r"(?:saved)?cmd_\S+ := (.*)")
_TEXT = re.compile(r"\.(?:\w+\.)?text(?:\..*)?\Z")
_R_X86_64_64 = 1
# Of a jump of a static branch that is off, by its first byte (objtool --hacks=jump_label). The byte
# before a relocation counts as the relocation's: a call that becomes a nop begins there.
_NOPS = {0xEB: (b"\x66\x90",), 0xE9: (b"\x0f\x1f\x44\x00\x00",)}


@dataclass(frozen=True, kw_only=True)
class CodeSection:
    """A section of an object with code: where in the image it is, and its size in bytes."""

    object: Path
    name: str
    address: int
    size: int


def find_commands(kernel: Kernel, files: Sequence[str]) -> tuple[Path, ...]:
    """Return Kbuild's files with the commands of the objects of C files and of folders of them.

    Raises UsageError for a name that is no C file of this kernel's image.
    """
    found: dict[Path, None] = {}
    for name in files:
        place = kernel.build_dir / name.rstrip("/")
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise UsageError(
                f"{name} is no file of the kernel's sources",
                hint="name it as the kernel does: kernel/module/main.c",
            )
        if place.suffix == ".c":
            commands = [place.with_name(f".{place.stem}.o.cmd")]
        else:
            commands = sorted(place.glob(".*.o.cmd"))
        commands = [path for path in commands if path.is_file() and compile_words(path) is not None]
        if not commands:
            raise UsageError(
                f"kernel {kernel.describe()} has no code of {name}",
                hint="name C files or folders of the sources that its configuration builds: "
                "kernel/module/main.c",
            )
        found.update(dict.fromkeys(commands))
    return tuple(found)


def compile_words(command: Path) -> list[str] | None:
    """Return the words of the command that compiles a C file; None for other commands."""
    match = _COMMAND.match(command.read_text(errors="replace"))
    if match is None:
        return None
    line = match[1].replace("$(pound)", "#").replace("$$", "$").split(" ; ")[0]
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    return words if words and words[-1].endswith(".c") and "-c" in words else None


def compile_again(command: Path, kernel: Kernel, folder: Path, deadline: Deadline) -> Path:
    """Compile a file with -g into a folder and return the object.

    Raises HarnessError when that fails, as it does when the compiler is gone.
    """
    words = compile_words(command)
    assert words is not None
    relative = command.relative_to(kernel.build_dir).parent
    made = folder / f"{'+'.join(relative.parts)}+{command.name[1:-4]}"
    kept = [word for word in words if not word.startswith("-Wp,-MMD")]
    kept[kept.index("-o") + 1] = str(made)
    try:
        run([*kept, *_DEBUG], cwd=kernel.build_dir, deadline=deadline.within(_COMPILE_S))
    except CommandFailed as error:
        raise HarnessError(
            f"{relative / made.name.rpartition('+')[2]} cannot be compiled once more with -g",
            hint="the kernel was built with another compiler: `klp-harness kernel build` builds it "
            "again with this one",
            details=error.details,
        ) from error
    return made


def code_sections(made: Path, image: Image) -> Iterator[CodeSection]:
    """Yield the sections with code of an object, as far as they are in the image.

    A section's place is the one that its functions agree on. Raises HarnessError when the image has
    other code there.
    """
    try:
        elf = ElfFile(made.read_bytes())
    except DamagedElf as error:
        raise HarnessError(f"{made.name}, compiled with -g, cannot be read: {error}") from error
    votes: dict[int, Counter[int]] = {}
    for symbol in elf.symbols or ():
        home = symbol.defined_in
        if symbol.kind != STT_FUNC or home is None or not symbol.size:
            continue
        section = elf.sections[home]
        if not section.flags & EXEC or not _TEXT.match(section.name):
            continue
        for there in image.symbols.named(symbol.name):
            if there.size == symbol.size:
                votes.setdefault(home, Counter())[there.address - symbol.value] += 1
    for number, vote in sorted(votes.items()):
        section = elf.sections[number]
        changed = _changed_by_linker(elf, number)
        content = elf.bytes_at(section, 0, section.size)
        for address, _ in vote.most_common():
            if _same(content, image.bytes_at(address, section.size), changed):
                yield CodeSection(
                    object=made, name=section.name, address=address, size=section.size
                )
                break
        else:
            raise HarnessError(
                f"{made.name.replace('+', '/')} compiled with -g has other code than the kernel's "
                "image: its lines are not known",
                hint="the kernel was built with another compiler, or its sources have changed",
            )


def _changed_by_linker(elf: ElfFile, section: int) -> frozenset[int]:
    return frozenset(
        place
        for number, relocations in elf.tables.items()
        if elf.sections[number].info == section
        for relocation in relocations
        for place in range(
            relocation.offset - 1, relocation.offset + (8 if relocation.kind == _R_X86_64_64 else 4)
        )
    )


def _same(ours: bytes, theirs: bytes | None, changed: frozenset[int]) -> bool:
    """Compare code, but for what linker and objtool write: objtool makes nops of some jumps."""
    if theirs is None or len(ours) != len(theirs):
        return False
    place = 0
    while place < len(ours):
        if ours[place] == theirs[place] or place in changed:
            place += 1
            continue
        jump = ours[place]
        nop = next((nop for nop in _NOPS.get(jump, ()) if theirs.startswith(nop, place)), None)
        if nop is None:
            return False
        place += len(nop)
    return True
