# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch built from its sources, and built again with one place of them changed.

A module builds in a second or two, so each mutant is a build of its own: no switch is in the code
that is verified.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import KernelBuildFailed, UsageError
from harness.inputs import shown
from harness.tools.mutants.sweep.candidates import Shape
from harness.vm.elf.module_info import read_module
from harness.vm.kernel.module import build_modules, copy_sources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.vm.kernel.kernel import Kernel

_BUILD_S = 300.0
_LOG = "build.log"
_SOURCES = "sources"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A build of a folder: its livepatch, the modules beside that, and what was compiled.

    ``objects`` has a digest of the object of each C file of the livepatch, by the file's name.
    """

    livepatch: Path
    beside: tuple[Path, ...]
    objects: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ModuleSource:
    """A folder of module sources with one livepatch, built in copies below ``folder``."""

    source: Path
    kernel: Kernel
    folder: Path
    deadline: Deadline

    def build(self, name: str, mutant: Candidate | None = None) -> Built:
        """Build a copy that is named so, with a mutant in it.

        Raises UsageError where the modules have no livepatch, or several; and what a build raises.
        """
        work = self.folder / name
        copy = work / _SOURCES
        copy_sources(self.source, copy)
        if mutant is not None:
            file = copy / mutant.file
            file.write_bytes(_same_lines(mutant, file.read_bytes()))
        build_modules(
            self.kernel,
            copy,
            variables=self.kernel.module_variables,
            what=self.source.name,
            log_path=work / _LOG,
            deadline=self.deadline.within(_BUILD_S),
        )
        return self._read(copy)

    def remove(self, name: str) -> None:
        """Remove the copy that is named so."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _read(self, copy: Path) -> Built:
        made = sorted(copy.rglob("*.ko"))
        livepatches = [path for path in made if read_module(path).is_livepatch]
        if len(livepatches) != 1:
            raise UsageError(
                f"{shown(self.source)} has {len(livepatches)} livepatches, and one is mutated",
                hint="name a folder whose Kbuild file builds one livepatch",
            )
        (livepatch,) = livepatches
        signer = self.kernel.signer()
        objects = {
            str(source.relative_to(copy)): hashlib.sha256(each.read_bytes()).hexdigest()
            for each in _objects_of(livepatch, copy)
            if (source := each.with_suffix(".c")).is_file()
        }
        if signer is not None:
            for path in made:
                signer.sign(path, self.deadline)
        beside = tuple(path for path in made if path != livepatch)
        return Built(livepatch=livepatch, beside=beside, objects=objects)


def complaint(error: KernelBuildFailed) -> str:
    """Return the first thing that the compiler has against a mutant."""
    return error.details[0].strip() if error.details else error.message


def _objects_of(module: Path, copy: Path) -> list[Path]:
    """Return the objects of which Kbuild made a module (scripts/Makefile.build, .mod)."""
    found = []
    for word in module.with_suffix(".mod").read_text().split():
        if not word.endswith(".o"):
            continue
        path = copy / word
        found.append(path if path.is_file() else module.parent / path.name)
    return [path for path in found if path.is_file()]


def _same_lines(mutant: Candidate, source: bytes) -> bytes:
    """Return the source with the mutant, every line after it in its place.

    A line's number is in the code, where that warns.
    """
    if mutant.shape is Shape.SWAP:
        return mutant.apply(source)
    lost = source[mutant.start : mutant.end].count(b"\n") - mutant.new.count("\n")
    return replace(mutant, new=mutant.new + "\n" * max(0, lost)).apply(source)
