# SPDX-License-Identifier: GPL-2.0-only
"""A program of the user's as the load under which a patch is verified."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.inputs import Kind, kind_of, shown
from harness.tools.verify.request import LoadProfile
from harness.vm.guest.initramfs import with_libraries
from harness.vm.host.lookup import is_static

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIST_S = 30.0
_ELF = b"\x7fELF"
_PROGRAM = "/load"


def parse_loads(texts: Sequence[str]) -> tuple[LoadProfile | Path, ...]:
    """Return what ``--load`` names: profiles by their names, and programs by their paths.

    Raises UsageError for what is neither, and for a program that cannot be executed.
    """
    return tuple(_load(text) for text in texts)


def _load(text: str) -> LoadProfile | Path:
    if text in list(LoadProfile):
        return LoadProfile(text)
    path = Path(text).expanduser()
    if kind_of(path, "the load") is not Kind.FILE:
        raise UsageError(
            f"--load {shown(text)} is no load, and no file",
            hint=f"loads are {', '.join(LoadProfile)}, or the path of a program",
        )
    if not os.access(path, os.X_OK):
        raise UsageError(f"the load {shown(text)} cannot be executed", hint="chmod +x makes it so")
    return path.absolute()


def libraries_of(loads: Sequence[LoadProfile | Path]) -> Mapping[str, Path]:
    """Return the shared libraries that programs among the loads need, by their paths in a guest.

    Raises HarnessError when the dynamic loader does not find them.
    """
    found: dict[str, Path] = {}
    for path in loads:
        if isinstance(path, LoadProfile) or is_static(path) or not _is_elf(path):
            continue
        found |= with_libraries(path, _PROGRAM, deadline=Deadline.after(_LIST_S))
    found.pop(_PROGRAM, None)
    return found


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF
