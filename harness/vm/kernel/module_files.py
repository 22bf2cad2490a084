# SPDX-License-Identifier: GPL-2.0-only
"""A distribution's module files, compressed or not: those that a guest loads, made plain."""

from __future__ import annotations

import gzip
import lzma
import shutil
import zlib
from typing import TYPE_CHECKING

from harness.errors import KernelUnfit, UsageError
from harness.inputs import MIB, shown
from harness.vm.elf.module_info import read_module
from harness.vm.host.process import find_program, run
from harness.vm.kernel.boot_modules import in_order
from harness.vm.kernel.requirements import BOOT_MODULES, GUEST_NEEDS, ROOT_MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedIOBase
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.kernel.config import KernelConfig

# CONFIG_MODULE_COMPRESS_*, scripts/Makefile.modinst
_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")
# The largest driver of a guest has some 100 KiB, with debug information ten times as much.
_MOST_BYTES = 256 * MIB


def module_index(folder: Path) -> dict[str, Path]:
    """Return the module files below lib/modules/X by the names that the kernel has for them."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.ko*")):
        name, dot, end = path.name.partition(".ko")
        if dot and f".ko{end}" in _SUFFIXES:
            found.setdefault(name.replace("-", "_"), path)
    return found


def collect_drivers(
    config: KernelConfig,
    modules: Mapping[str, Path],
    folder: Path,
    *,
    where: str,
    release: str,
    deadline: Deadline,
) -> None:
    """Write the modules that a guest of this kernel loads, and those they need, into a folder.

    An optional one that is not among the modules is left out: what is only built is not always
    installed. Raises KernelUnfit for another, UsageError for a file that is damaged or is of
    another kernel, MissingTool.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = []
    for symbol, name in BOOT_MODULES.items():
        if config.get(symbol) != "m":
            continue
        if name in modules:
            wanted.append(name)
        elif symbol in GUEST_NEEDS:
            raise KernelUnfit(
                f"{where} has CONFIG_{symbol}=m, and {name}.ko is not among its modules",
                hint="give or install the package with its modules: linux-modules-X on Ubuntu, "
                "kernel-modules-core on Fedora",
            )

    def made_plain(name: str) -> tuple[str, ...]:
        plain = folder / f"{name}.ko"
        write_plain(modules[name], plain, deadline)
        info = read_module(plain)
        if info.vermagic.partition(" ")[0] != release:
            raise UsageError(
                f"{where} is the kernel {release}, and its {name}.ko is one of "
                f"{shown(info.vermagic.partition(' ')[0]) or 'no kernel'}",
                hint="image and modules must come from one build",
            )
        return info.depends

    def depends(name: str) -> tuple[str, ...]:
        if name not in modules:
            raise KernelUnfit(
                f"{where} has no file {name}.ko, which a driver of the guest depends on",
                hint="give or install the package with all its modules",
            )
        return made_plain(name)

    in_order(wanted, depends)
    # Few guests have a disk: what is missing for that is said when one is asked for.
    of_root = [name for symbol, name in ROOT_MODULES.items() if config.get(symbol) == "m"]
    in_order(of_root, lambda name: made_plain(name) if name in modules else ())


def write_plain(module: Path, target: Path, deadline: Deadline) -> None:
    """Write a module's file without its compression.

    Raises UsageError when the compressed data is damaged, cut off, or grows without end;
    MissingTool when there is no zstd for a .ko.zst.
    """
    try:
        if module.suffix == ".zst":
            _run_zstd(module, target, deadline)
        elif module.suffix == ".ko":
            shutil.copyfile(module, target)
        else:
            opener = gzip.GzipFile if module.suffix == ".gz" else lzma.LZMAFile
            with opener(module) as packed, target.open("wb") as plain:
                for part in _bounded(packed, module):
                    plain.write(part)
                if not plain.tell():  # to gzip an empty file is no stream, and no error
                    raise EOFError
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(module) from error


def _bounded(packed: BufferedIOBase, module: Path) -> Iterator[bytes]:
    size = 0
    while part := packed.read(MIB):
        size += len(part)
        if size > _MOST_BYTES:
            raise UsageError(
                f"the module {shown(module)} has more than {_MOST_BYTES // MIB} MiB when it is "
                "unpacked, which is no size for it"
            )
        yield part


def _run_zstd(module: Path, target: Path, deadline: Deadline) -> None:
    find_program("zstd")
    # zstd has no limit of its own for what it writes; the kernel has one.
    run(
        [
            *("prlimit", f"--fsize={_MOST_BYTES}", "--"),
            *("zstd", "--decompress", "--quiet", "--force", "--no-progress"),
            *(module, "-o", target),
        ],
        deadline=deadline,
        explain=lambda _: _damaged(module),
    )


def _damaged(module: Path) -> UsageError:
    return UsageError(
        f"the module {shown(module)} cannot be unpacked: it is damaged or cut off",
        hint="install its package again, or fetch it again",
    )
