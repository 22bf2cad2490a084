# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's image: its symbols, bytes and instructions."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.vm.elf.vmlinux import read_vmlinux
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.elf.vmlinux import Vmlinux
    from harness.vm.kernel.kernel import Kernel

_OBJDUMP_S = 120.0
_INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\t([0-9a-f ]+?)\s*(?:\t(.*))?$")
_TARGET = re.compile(r"\s+([0-9a-f]+)(?:\s|$)")


class Instruction(NamedTuple):
    """One instruction, as objdump writes it: ``text`` is ``je     ffffffff81000000 <f+0x10>``."""

    address: int
    data: bytes
    text: str

    @property
    def name(self) -> str:
        """Its mnemonic; of a prefixed one the prefix."""
        return self.text.partition(" ")[0]

    @property
    def target(self) -> int | None:
        """Where a direct jump leads; None for anything else."""
        match = _TARGET.match(self.text[len(self.name) :]) if self.name.startswith("j") else None
        return int(match[1], 16) if match else None


class Image:
    """A vmlinux with symbols. Raises HarnessError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.symbols: Vmlinux = read_vmlinux(path)
        try:
            with path.open("rb") as file:
                self._sections = [
                    (section["sh_addr"], section["sh_offset"], section["sh_size"])
                    for section in ELFFile(file).iter_sections()
                    if section["sh_addr"] and section["sh_type"] == "SHT_PROGBITS"
                ]
        except (OSError, ELFError) as error:
            raise HarnessError(f"{path} cannot be read: {error}") from error

    def bytes_at(self, address: int, size: int) -> bytes | None:
        """Return the bytes at an address, None where the file has none."""
        for start, offset, length in self._sections:
            if start <= address and address + size <= start + length:
                with self.path.open("rb") as file:
                    file.seek(offset + address - start)
                    return file.read(size)
        return None

    def function(self, name: str) -> tuple[Instruction, ...]:
        """Return the instructions of a function; none when there is no single one of the name."""
        found = [each for each in self.symbols.named(name) if each.size]
        if len(found) != 1:
            return ()
        return self.instructions(found[0].address, found[0].address + found[0].size)

    def instructions(self, start: int, end: int) -> tuple[Instruction, ...]:
        """Return the instructions of an address range. Raises MissingTool, CommandFailed."""
        return _disassembled(self.path, start, end)


def image_of(kernel: Kernel) -> Image:
    """Return a kernel's image; raises UsageError for one without symbols."""
    if kernel.vmlinux is None:
        raise UsageError(
            f"kernel {kernel.describe()} comes without its symbols: it cannot be observed",
            hint="take a kernel that is built from source, as 6.1 is",
        )
    return Image(kernel.vmlinux)


@functools.lru_cache(maxsize=512)
def _disassembled(path: Path, start: int, end: int) -> tuple[Instruction, ...]:
    limits = (f"--start-address={start:#x}", f"--stop-address={end:#x}")
    done = run(["objdump", "-d", "-w", *limits, path], deadline=Deadline.after(_OBJDUMP_S))
    return parse_instructions(done.stdout)


def parse_instructions(text: str) -> tuple[Instruction, ...]:
    """Return the instructions that objdump -d -w has printed."""
    matches = (_INSTRUCTION.match(line) for line in text.splitlines())
    return tuple(
        Instruction(int(match[1], 16), bytes.fromhex(match[2]), (match[3] or "").strip())
        for match in matches
        if match
    )
