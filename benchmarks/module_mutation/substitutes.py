# SPDX-License-Identifier: GPL-2.0-only
"""Symbols of the kernel and of targets that a mutant may name instead of the right one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from harness.vm.elf.vmlinux import read_vmlinux

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from harness.vm.elf.module_info import ModuleInfo
    from harness.vm.elf.vmlinux import Vmlinux
    from harness.vm.kernel.kernel import Kernel

VMLINUX = "vmlinux"
_ALIKE = 0.5


class Substitutes:
    """The symbols of vmlinux, unless the kernel is packaged, and of the targets."""

    def __init__(self, image: Vmlinux | None, targets: Sequence[ModuleInfo]) -> None:
        self._image = image
        self._targets = {target.name: target for target in targets}

    @classmethod
    def of(cls, kernel: Kernel, targets: Sequence[ModuleInfo]) -> Substitutes:
        """Return those of a kernel and targets; raises HarnessError when vmlinux cannot be read."""
        image = read_vmlinux(kernel.vmlinux) if kernel.vmlinux is not None else None
        return cls(image, targets)

    def count(self, owner: str, name: str) -> int:
        """Return how many symbols of that name an object has; 0 when it is not known."""
        if owner == VMLINUX:
            return len(self._image.named(name)) if self._image is not None else 0
        target = self._targets.get(owner)
        return len(target.symbols.get(name, ())) if target is not None else 0

    def neighbour(self, owner: str, name: str, *, taken: Collection[str]) -> str | None:
        """Return the function of the object with the most similar name.

        Its name is unique, ftrace can hook it, and it is not in ``taken``.
        """
        names = self._functions(owner) - {name, *taken}
        words = name.split("_")
        # Functions with a common end or beginning of their names often have one prototype.
        families = (
            {other for other in names if other.endswith("_" + "_".join(words[-2:]))},
            {other for other in names if other.startswith(f"{name}_")},
            {other for other in names if other.endswith(f"_{words[-1]}")},
            {other for other in names if other.split("_")[0] == words[0]},
        )
        found = (_nearest(name, family) for family in families)
        return next((near for near in found if near is not None), None)

    def _functions(self, owner: str) -> frozenset[str]:
        if owner == VMLINUX:
            return _unique_functions(self._image) if self._image is not None else frozenset()
        target = self._targets.get(owner)
        if target is None:
            return frozenset()
        unique = {name for name, traceable in target.symbols.items() if traceable == (True,)}
        return frozenset(unique) - target.init_functions


def _unique_functions(image: Vmlinux) -> frozenset[str]:
    bounds = [image.named(name) for name in ("_sinittext", "_einittext")]
    start, end = (each[0].address if each else 0 for each in bounds)
    return frozenset(
        name
        for name in image.traceable_functions()
        if len(symbols := image.named(name)) == 1 and not start <= symbols[0].address < end
    )


def _nearest(name: str, others: Iterable[str]) -> str | None:
    # Sorted, so that every run has the same mutants.
    found = difflib.get_close_matches(name, sorted(others), n=1, cutoff=_ALIKE)
    return found[0] if found else None
