# SPDX-License-Identifier: GPL-2.0-only
"""Which modules a guest loads from its initramfs, and in which order, when drivers are modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import KernelUnfit
from harness.vm.elf.module_info import read_module
from harness.vm.kernel.requirements import BOOT_MODULES, GUEST_NEEDS, ROOT_MODULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from harness.vm.kernel.config import KernelConfig


def boot_modules(config: KernelConfig, files: Mapping[str, Path], where: str) -> tuple[Path, ...]:
    """Return the files of what is =m of BOOT_MODULES, each after those that it depends on.

    ``files`` has the build's modules by name (underscored). One that guests can do without may be
    missing. Raises KernelUnfit for another that was not built.
    """
    wanted: list[str] = []
    for symbol, name in BOOT_MODULES.items():
        if config.get(symbol) != "m":
            continue
        if name not in files and symbol not in GUEST_NEEDS:
            continue  # Ubuntu has some in a package that a guest does without
        if name not in files:
            raise KernelUnfit(
                f"{where} has CONFIG_{symbol}=m and no file {name}.ko",
                hint="run make modules there; or build it in (=y)",
            )
        wanted.append(name)
    order = in_order(wanted, lambda name: read_module(files[name]).depends if name in files else ())
    absent = [name for name in order if name not in files]
    if absent:
        raise KernelUnfit(
            f"{where} has no file {absent[0]}.ko, which a driver of the guest depends on",
            hint="run make modules there",
        )
    return tuple(files[name] for name in order)


def root_modules(config: KernelConfig, files: Mapping[str, Path]) -> tuple[Path, ...]:
    """Return the files of what is =m of ROOT_MODULES, as far as they and what they need are there.

    In the order in which they are loaded; ``files`` is as in `boot_modules`.
    """
    done: dict[str, Path] = {}
    for symbol, name in ROOT_MODULES.items():
        if config.get(symbol) != "m":
            continue
        order = in_order(
            [name], lambda each: read_module(files[each]).depends if each in files else ()
        )
        if all(each in files for each in order):
            done |= {each: files[each] for each in order}
    return tuple(done.values())


def in_order(wanted: Iterable[str], depends: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
    """Return the names and all they depend on, each after its dependencies, none twice.

    A cycle, which depmod(8) refuses as well, ends where it closes.
    """
    done: dict[str, None] = {}
    entered: set[str] = set()

    def add(name: str) -> None:
        if name in entered:
            return
        entered.add(name)
        for other in depends(name):
            add(other.replace("-", "_"))
        done[name] = None

    for name in wanted:
        add(name)
    return tuple(done)


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Return module files by the names that the kernel has for them."""
    return {path.name.removesuffix(".ko").replace("-", "_"): path for path in paths}
