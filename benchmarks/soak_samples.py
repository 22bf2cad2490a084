# SPDX-License-Identifier: GPL-2.0-only
"""What is sampled between the parts of a soak."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from harness.resources import cache_root

if TYPE_CHECKING:
    from benchmarks.commands_here import Place

_MIB = 1 << 20
# Their entries are counted, and not measured: they have a hundred thousand files.
_LARGE = {"source", "workspace", "kernel", "kpatch"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that must not grow, and by how much it may; ``of_process``: of this process."""

    name: str
    unit: str
    tolerated: float
    of_process: bool = False


FIGURES = (
    Figure(name="descriptors", unit="", tolerated=3, of_process=True),
    Figure(name="threads", unit="", tolerated=2, of_process=True),
    Figure(name="memory", unit="MiB", tolerated=8, of_process=True),
    Figure(name="processes", unit="", tolerated=1, of_process=True),
    Figure(name="shm", unit="MiB", tolerated=8),
    Figure(name="run-folders", unit="", tolerated=2),
    Figure(name="runs", unit="MiB", tolerated=16),
    Figure(name="entries", unit="", tolerated=2),
    Figure(name="cache", unit="MiB", tolerated=16),
)


def sample(place: Place) -> dict[str, float]:
    """Return all figures as they are now."""
    here = psutil.Process()
    shm = os.statvfs("/dev/shm")  # noqa: S108
    cache = cache_root()
    kinds = [kind for kind in cache.iterdir() if kind.is_dir()] if cache.is_dir() else []
    return {
        "descriptors": here.num_fds(),
        "threads": here.num_threads(),
        "memory": here.memory_info().rss / _MIB,
        "processes": len(here.children(recursive=True)),
        "shm": (shm.f_blocks - shm.f_bfree) * shm.f_frsize / _MIB,
        "run-folders": len(place.run_folders()),
        "runs": _size(place.runs) / _MIB,
        "entries": sum(1 for kind in kinds for entry in kind.iterdir() if entry.is_dir()),
        "cache": sum(_size(kind) for kind in kinds if kind.name not in _LARGE) / _MIB,
    }


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder; those that go away meanwhile count nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except OSError:
                continue
    return total
