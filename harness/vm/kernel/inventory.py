# SPDX-License-Identifier: GPL-2.0-only
"""The kernels in the cache: what `klp-harness kernel list` shows and `kernel prune` removes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import CacheCorrupt
from harness.log import LOGGER
from harness.vm.kernel import source
from harness.vm.kernel.kernel import KIND, read_metadata
from harness.vm.kernel.workspace import TREES, remove_unused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from harness.vm.host.cache import Entry, Store

MODULES = "module"
PACKAGES = "package"
# Objects of the default configuration, for the first build of a machine: 6.1 with base, livepatch.
_USUAL_OBJECTS = 1063


@dataclass(frozen=True, kw_only=True)
class CachedKernel:
    """A kernel in the cache. ``last_used_s`` is seconds since the epoch; sources count apart."""

    digest: str
    version: str
    source: str
    compiler: str
    path: Path
    size_bytes: int
    last_used_s: float


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What `prune_kernels` removed and what it left because a process uses it."""

    removed: tuple[str, ...]
    in_use: tuple[str, ...]
    freed_bytes: int


def _described(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Mapping[str, str]]]:
    """Yield the entries that have a readable description, with it; warn of the others."""
    for entry in entries:
        try:
            yield entry, read_metadata(entry.path)
        except CacheCorrupt as error:
            LOGGER.warning("%s; it is made again when it is needed", error.message)


def list_kernels(store: Store) -> tuple[CachedKernel, ...]:
    """Return the kernels in the cache, the last used first; packaged ones after those built."""
    return tuple(
        CachedKernel(
            digest=entry.key,
            version=metadata["version"],
            source=metadata["source"],
            compiler=metadata["compiler"],
            path=entry.path,
            size_bytes=entry.size_bytes,
            last_used_s=entry.last_used_s,
        )
        for entry, metadata in _described([*store.entries(KIND), *store.entries(PACKAGES)])
    )


def prune_kernels(store: Store, *, keep: int = 0, unused_for_s: float = 0.0) -> Pruned:
    """Remove kernels, modules and workspaces made for them, sources, and what killed runs left.

    The ``keep`` kernels last used stay, and those used within ``unused_for_s`` seconds; sources and
    modules stay while such a kernel needs them. What a running process uses stays in any
    case. Of other kinds (initramfs, guest programs, what a cluster sent) those are removed that
    were not used for so long.
    """
    removed: list[str] = []
    in_use: list[str] = []
    freed = 0
    store.sweep()
    now_s = time.time()
    kept_sources: set[str] = set()
    kept_kernels: set[str] = set()

    def is_young(entry: Entry) -> bool:
        return now_s - entry.last_used_s < unused_for_s

    def remove(entry: Entry, label: str) -> bool:
        nonlocal freed
        if not store.remove(entry.kind, entry.key):
            in_use.append(label)
            return False
        removed.append(label)
        freed += entry.size_bytes
        return True

    kernels = [*store.entries(KIND), *store.entries(PACKAGES)]
    kernels.sort(key=lambda entry: entry.last_used_s, reverse=True)
    for number, entry in enumerate(kernels):
        metadata = read_metadata(entry.path)
        label = f"kernel {metadata['version']} ({entry.key[:12]})"
        if number >= keep and not is_young(entry) and remove(entry, label):
            continue
        kept_sources.add(metadata["source_digest"])
        kept_kernels.add(entry.key)
    for trees in TREES:
        remove_unused(store.root, kept_kernels, kind=trees)
    kept: dict[str, Callable[[Entry], bool]] = {
        source.KIND: lambda entry: entry.key in kept_sources,
        MODULES: lambda entry: entry.key.partition("-")[0] in kept_kernels,
    }
    for other in store.kinds():
        if other in (KIND, PACKAGES):
            continue
        is_kept = kept.get(other, is_young)
        for entry in store.entries(other):
            if not is_kept(entry):
                remove(entry, f"{other} {entry.key[:12]}")
    return Pruned(removed=tuple(removed), in_use=tuple(in_use), freed_bytes=freed)


def known_objects(store: Store, description: str) -> int:
    """Return how many objects the last build of the same sources, or of any, compiled."""
    counts = [
        (metadata["source"] == description, int(metadata["objects"]))
        for _, metadata in _described(store.entries(KIND))
    ]
    same = [count for is_same, count in counts if is_same]
    return (same or [count for _, count in counts] or [_USUAL_OBJECTS])[0]
