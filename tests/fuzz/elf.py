# SPDX-License-Identifier: GPL-2.0-only
"""Damages module files and kernel images, and reads them with all that reads ELF files.

    python -m tests.fuzz.elf --seconds 60

Each input is one of the modules in tests/unit/data/modules, or given on the command line, with
bits flipped, bytes or words overwritten, cut off, or with a part of another one in it. It has to be
read, or refused with a UsageError (a HarnessError for a kernel image); in bounded time and memory.
The number of an input is its seed: ``--first N --count 1`` runs one again.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from harness.errors import HarnessError, UsageError
from harness.tools.verify.file_checks import check_file
from harness.tools.verify.unused_functions import unused_functions
from harness.vm.elf.klp_structs import locate_patch
from harness.vm.elf.module_info import open_module, read_module, readable
from harness.vm.elf.symbols import cold_part, function_at, text_sections
from harness.vm.elf.vmlinux import read_vmlinux
from harness.vm.kernel.boot_modules import boot_modules
from harness.vm.kernel.check import find_problems
from harness.vm.kernel.config import KernelConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.vm.kernel.kernel import Kernel

MODULES = Path(__file__).resolve().parents[1] / "unit" / "data" / "modules"
SLOWEST_S = 10.0
"""No input of these sizes, damaged in whichever way, may take longer: the usual one takes 2 ms."""

MEMORY_BYTES = 4 << 30
_WORDS = (0, 1, 7, 1 << 16, 1 << 28, 1 << 31, 1 << 32, 1 << 60, (1 << 63) - 1, (1 << 64) - 1)


@dataclass(frozen=True, kw_only=True)
class Found:
    """An input that was neither read nor refused, or took too long."""

    number: int
    what: str


def damaged(whole: Sequence[bytes], number: int) -> bytes:
    """Return the input of that number: one of the files, damaged."""
    chance = random.Random(number)
    content = bytearray(chance.choice(whole))
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        _damage(content, chance, whole)
    return bytes(content)


def _damage(content: bytearray, chance: random.Random, whole: Sequence[bytes]) -> None:
    if len(content) < 128:
        return
    # Most of a file is text and data; its header, section table and symbols decide more.
    (table,) = struct.unpack_from("<Q", content, 40)
    begin = chance.choice((0, 0, 0, min(table, len(content) - 64), len(content) * 2 // 3))
    at = chance.randrange(begin, len(content) - 16)
    match chance.randrange(6):
        case 0 | 1:
            content[at] ^= 1 << chance.randrange(8)
        case 2:
            content[at] = chance.randrange(256)
        case 3:
            struct.pack_into("<Q", content, at & ~7, chance.choice(_WORDS))
        case 4:
            del content[at:]
        case _:
            other = chance.choice(whole)
            start = chance.randrange(len(other))
            part = other[start : start + chance.choice((8, 24, 64, 1024))]
            content[at : at + len(part)] = part


def readers(kernel: Kernel, path: Path) -> None:
    """Read a module's file with everything that reads one."""
    info = read_module(path)
    with readable(path):
        locate_patch(open_module(path).elf)
    unused_functions(path)
    for section in text_sections(path):
        function_at(path, 16, section)
    cold_part(path, "klp_gate_wait")
    find_problems(info, kernel, targets=[info], expect_livepatch=True)
    check_file(info, kernel, targets=[info], older=[info])
    boot_modules(KernelConfig({"CONFIG_VIRTIO_PCI": "m"}), {"virtio_pci": path}, "here")


def doubled(folder: Path) -> Kernel:
    """Return what the checks ask of a kernel; its image is a module that passes for one."""
    (folder / "Module.symvers").write_text("0x0\t_printk\tvmlinux\tEXPORT_SYMBOL\n")
    made = SimpleNamespace(
        build_dir=folder,
        config=KernelConfig({}),
        version="6.1.192",
        vmlinux=MODULES / "klp_target_gate.ko",
    )
    return cast("Kernel", made)


def try_one(kernel: Kernel, path: Path, content: bytes) -> None:
    """Have an input read; what is raised that is no refusal is raised on."""
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        readers(kernel, path)
    with contextlib.suppress(HarnessError):
        read_vmlinux(path).traceable_functions()


def try_many(
    whole: Sequence[bytes], *, first: int, count: int | None, seconds: float
) -> tuple[int, list[Found]]:
    """Try inputs until there were so many, or time is up: how many, and what was found."""
    found: list[Found] = []
    end_s = time.monotonic() + seconds
    number = first
    with tempfile.TemporaryDirectory(prefix="klp-fuzz-") as name:
        kernel = doubled(Path(name))
        path = Path(name) / "x.ko"
        while time.monotonic() < end_s and (count is None or number < first + count):
            start_s = time.monotonic()
            try:
                try_one(kernel, path, damaged(whole, number))
            except Exception:  # noqa: BLE001 - that is what is looked for
                found.append(Found(number=number, what=traceback.format_exc()))
            if time.monotonic() - start_s > SLOWEST_S:
                found.append(Found(number=number, what=f"took {time.monotonic() - start_s:.0f} s"))
            number += 1
    return number - first, found


def seeds(given: Sequence[Path] = ()) -> list[bytes]:
    """Return the whole files that inputs are made of."""
    return [path.read_bytes() for path in given or sorted(MODULES.glob("*.ko"))]


def main() -> int:
    """Try inputs as the command line says; 1 when one was neither read nor refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long at most (60)")
    parser.add_argument("--count", type=int, help="how many at most")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input (0)")
    parser.add_argument("modules", nargs="*", type=Path, help="other module files to begin with")
    asked: Any = parser.parse_args()
    # An input that takes all memory ends in a MemoryError here, and not in a host without memory.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    tried, found = try_many(
        seeds(asked.modules), first=asked.first, count=asked.count, seconds=asked.seconds
    )
    for each in found[:20]:
        sys.stdout.write(f"input {each.number}: {each.what}\n")
    if found:
        sys.stdout.write("--first NUMBER --count 1 runs one of them again\n")
    sys.stdout.write(f"{tried} damaged files: {len(found)} neither read nor refused\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
