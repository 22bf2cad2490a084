# SPDX-License-Identifier: GPL-2.0-only
"""Which lines the instructions of a kernel belong to, in some of its source files; cached."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from harness.errors import HarnessError, UsageError
from harness.observer.debug_objects import code_sections, compile_again, find_commands
from harness.observer.image import image_of
from harness.vm.host.process import run
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.observer.debug_objects import CodeSection
    from harness.observer.image import Image, Instruction
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

KIND = "code-map"
_FORMAT = 1
_FILE = "map.json"
_ADDR2LINE_S = 120.0
# No code: what fills the room between functions.
_PADDING = ("nop", "xchg   %ax,%ax", "cs nop", "data16", "int3")
_FENTRY = b"\x0f\x1f\x44\x00\x00"
_ENDS = ("jmp", "ret", "ud2")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Place(_Model):
    """A line of a file, and the function that its code is of: inlined ones have their own name."""

    file: str
    line: int
    function: str


class Code(_Model):
    """An instruction. ``places`` begins with its own, and goes on with where that was inlined.

    ``text`` is what objdump prints; ``warns`` is whether it is the trap of a WARN or a BUG.
    """

    address: int
    places: tuple[Place, ...]
    warns: bool = False


class Branch(_Model):
    """A conditional jump and where it goes on.

    ``alone_next``, ``alone_target``: nothing else leads there, so that its counter is the branch's.
    """

    address: int
    next: int
    target: int
    alone_next: bool
    alone_target: bool


class SourceFile(_Model):
    """A file of the kernel's sources, by the kernel's own name for it, and its lines of text."""

    name: str
    text: tuple[str, ...]


class CodeMap(_Model):
    """The code of some source files in a kernel's image."""

    digest: str
    ranges: tuple[tuple[int, int], ...]
    codes: tuple[Code, ...]
    branches: tuple[Branch, ...]
    files: tuple[SourceFile, ...]


def obtain_map(
    kernel: Kernel, files: Sequence[str], *, store: Store, deadline: Deadline
) -> CodeMap:
    """Return the map of some C files, or folders of them, made now or taken from the cache.

    Raises UsageError for a kernel without symbols, one with patches, of which the sources are not
    kept, and for files that it does not have; HarnessError when its code cannot be made again.
    """
    image_of(kernel)
    if kernel.digest != kernel.module_digest:
        raise UsageError(
            f"the sources of {kernel.describe()} are not kept: its lines are not known",
            hint="apply the patches in a source tree, and give that: --kernel ./linux",
        )
    commands = find_commands(kernel, files)
    asked = json.dumps([_FORMAT, kernel.digest, [str(path) for path in commands]])

    def fill(folder: Path) -> None:
        made = _make(kernel, commands, deadline)
        (folder / _FILE).write_text(made.model_dump_json())

    key = hashlib.sha256(asked.encode()).hexdigest()[:16]
    entry = store.obtain(KIND, key, fill, deadline=deadline)
    return CodeMap.model_validate_json((entry / _FILE).read_bytes())


def _make(kernel: Kernel, commands: Sequence[Path], deadline: Deadline) -> CodeMap:
    image = image_of(kernel)
    names = frozenset(_source_of(command, kernel) for command in commands)
    with temporary_folder("dwarf") as folder:
        objects = [compile_again(command, kernel, folder, deadline) for command in commands]
        sections = [part for each in objects for part in code_sections(each, image)]
        sections.sort(key=lambda part: part.address)
        if not sections:
            raise HarnessError("the files have no code in the kernel's image")
        parts = [_instructions(image, part) for part in sections]
        codes = [
            code
            for part, found in zip(sections, parts, strict=True)
            for code in _codes(kernel, part, found, names, deadline)
        ]
    known = frozenset(code.address for code in codes)
    return CodeMap(
        digest=kernel.digest,
        ranges=tuple((part.address, part.address + part.size) for part in sections),
        codes=tuple(codes),
        branches=tuple(branch for branch in branches_of(parts) if branch.address in known),
        files=tuple(_read_source(kernel, name) for name in sorted(names)),
    )


def _instructions(image: Image, part: CodeSection) -> list[Instruction]:
    """Return a section's instructions without the padding between its functions."""
    found = image.instructions(part.address, part.address + part.size)
    return [insn for insn in found if not is_padding(insn)]


def is_padding(insn: Instruction) -> bool:
    """Return whether an instruction only fills the room between functions."""
    return insn.text.startswith(_PADDING) and insn.data != _FENTRY


def _codes(
    kernel: Kernel,
    part: CodeSection,
    found: Sequence[Instruction],
    names: frozenset[str],
    deadline: Deadline,
) -> Iterator[Code]:
    asked = "\n".join(f"{insn.address - part.address:#x}" for insn in found)
    done = run(
        ["addr2line", "-a", "-i", "-f", "-j", part.name, "-e", part.object],
        stdin=asked,
        deadline=deadline.within(_ADDR2LINE_S),
    )
    chains = parse_addr2line(done.stdout)
    for insn in found:
        chain = chains.get(insn.address - part.address, ())
        places = []
        for function, path, line in chain:
            name = _kernel_name(kernel, path)
            if name in names and line:
                places.append(Place(file=name, line=line, function=function))
        if places:
            yield Code(
                address=insn.address, places=tuple(places), warns=insn.text.startswith("ud2")
            )


def parse_addr2line(text: str) -> dict[int, tuple[tuple[str, str, int], ...]]:
    """Return function, file and line of each address that ``addr2line -a -i -f`` was asked for.

    The innermost comes first; the line is 0 where it is not known.
    """
    found: dict[int, tuple[tuple[str, str, int], ...]] = {}
    address: int | None = None
    pending: str | None = None
    for line in text.splitlines():
        if line.startswith("0x"):
            address, pending = int(line, 16), None
            found[address] = ()
        elif pending is None:
            pending = line
        elif address is not None:
            path, _, number = line.partition(" (")[0].rpartition(":")
            row = int(number) if number.isdigit() else 0
            found[address] = (*found[address], (pending, path, row))
            pending = None
    return found


def branches_of(parts: Sequence[Sequence[Instruction]]) -> Iterator[Branch]:
    """Yield the conditional jumps of some sections' instructions, but for the last of each."""
    leads_to: dict[int, int] = {}
    for insn in itertools.chain.from_iterable(parts):
        if insn.target is not None:
            leads_to[insn.target] = leads_to.get(insn.target, 0) + 1
    falls_into = {
        after.address
        for part in parts
        for before, after in itertools.pairwise(part)
        if not before.name.startswith(_ENDS)
    }
    for part in parts:
        for insn, after in itertools.pairwise(part):
            if insn.target is None or insn.name.startswith("jmp"):
                continue
            yield Branch(
                address=insn.address,
                next=after.address,
                target=insn.target,
                alone_next=not leads_to.get(after.address),
                alone_target=leads_to[insn.target] == 1 and insn.target not in falls_into,
            )


def _root(kernel: Kernel) -> Path:
    """Return the folder that the kernel's own names of its sources begin in."""
    inside = kernel.build_dir / "kernel/livepatch/core.c"
    return kernel.build_dir if inside.is_file() else kernel.build_dir.parent


def _source_of(command: Path, kernel: Kernel) -> str:
    relative = command.relative_to(kernel.build_dir)
    return str(relative.with_name(f"{command.name[1 : -len('.o.cmd')]}.c"))


def _kernel_name(kernel: Kernel, path: str) -> str:
    return os.path.relpath(os.path.normpath(kernel.build_dir / path), _root(kernel))


def _read_source(kernel: Kernel, name: str) -> SourceFile:
    text = (_root(kernel) / name).read_text(errors="replace")
    return SourceFile(name=name, text=tuple(text.splitlines()))
