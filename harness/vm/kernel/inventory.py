# SPDX-License-Identifier: GPL-2.0-only
"""The kernels in the cache: what `klp-harness kernel list` shows and `kernel prune` removes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import CacheCorrupt
from harness.log import LOGGER
from harness.vm.kernel import source
from harness.vm.kernel.kernel import KIND, read_metadata
from harness.vm.kernel.workspace import TREES, remove_unused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from harness.vm.host.cache import Entry, Store
    from harness.vm.kernel.kernel import Metadata

MODULES = "module"
PACKAGES = "package"
# Objects of the default configuration, for the first build of a machine: 6.1 with base, livepatch.
_USUAL_OBJECTS = 880


@dataclass(frozen=True, kw_only=True)
class CachedKernel:
    """A kernel in the cache. ``last_used_s`` is seconds since the epoch; sources count apart.

    ``age_s`` is how long ago that was, whatever the clock did since (`harness.vm.host.last_use`).
    """

    digest: str
    version: str
    source: str
    compiler: str
    path: Path
    size_bytes: int
    last_used_s: float
    age_s: float


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What `prune_kernels` removed and what it left because a process uses it.

    ``doubt``: why it removed nothing, because the host's clock may be wrong.
    """

    removed: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()
    freed_bytes: int = 0
    doubt: str | None = None


def _described(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Metadata]]:
    """Yield the entries that have a readable description, with it; warn of the others."""
    for entry in entries:
        try:
            yield entry, read_metadata(entry.path)
        except CacheCorrupt as error:
            LOGGER.warning("%s; it is made again when it is needed", error.message)


def list_kernels(store: Store) -> tuple[CachedKernel, ...]:
    """Return the kernels in the cache, the last used first; packaged ones after those built.

    A damaged one is left out, with a warning.
    """
    ages = store.ages()
    for kind in (KIND, PACKAGES):
        for entry in store.damaged(kind):
            LOGGER.warning(
                "the cache entry %s/%s is damaged; it is made again when it is needed",
                kind,
                entry.key,
            )
    return tuple(
        CachedKernel(
            digest=entry.key,
            version=metadata.version,
            source=metadata.source,
            compiler=metadata.compiler,
            path=entry.path,
            size_bytes=entry.size_bytes or 0,
            last_used_s=entry.last_use.at_s,
            age_s=ages.age_s(entry.last_use),
        )
        for entry, metadata in _described([*store.entries(KIND), *store.entries(PACKAGES)])
    )


def prune_kernels(store: Store, *, keep: int = 0, unused_for_s: float = 0.0) -> Pruned:
    """Remove kernels, modules and workspaces made for them, sources, and what killed runs left.

    The ``keep`` kernels last used stay, and those used within ``unused_for_s`` seconds; sources and
    modules stay while such a kernel needs them. What a running process uses stays in any
    case. Of other kinds (initramfs, guest programs, what a cluster sent) those are removed that
    were not used for so long. What is damaged is removed, however young.

    Nothing is removed when no kernel would be left because of its age, and nothing was used since
    the host started: then the clock alone says so, and a clock may be wrong.
    """
    doubt = doubtful_ages(store, unused_for_s) if keep == 0 else None
    if doubt is not None:
        return Pruned(doubt=doubt)
    store.sweep()
    return _Pruning(store, unused_for_s).run(keep)


def doubtful_ages(store: Store, unused_for_s: float) -> str | None:
    """Return why no kernel should be removed for its age alone, or None."""
    ages = store.ages()
    kernels = [*store.entries(KIND), *store.entries(PACKAGES)]
    if ages.is_sure or not unused_for_s or not kernels:
        return None
    youngest_s = min(ages.age_s(entry.last_use) for entry in kernels)
    if youngest_s < unused_for_s:
        return None
    return (
        f"by the host's clock no kernel was used for {youngest_s / 86400:.0f} days, and none since "
        "the host started: the clock may be wrong"
    )


class _Pruning:
    """One run of `prune_kernels`."""

    def __init__(self, store: Store, unused_for_s: float) -> None:
        self._store = store
        self._ages = store.ages()
        self._unused_for_s = unused_for_s
        self._removed: list[str] = []
        self._in_use: list[str] = []
        self._freed = 0

    def run(self, keep: int) -> Pruned:
        kept_sources: set[str] = set()
        kept_kernels: set[str] = set()
        for kind in self._store.kinds():
            for entry in self._store.damaged(kind):
                self._remove(entry, f"{kind} {entry.key[:12]}, which is damaged")
        kernels = [*self._store.entries(KIND), *self._store.entries(PACKAGES)]
        kernels.sort(key=lambda entry: self._ages.age_s(entry.last_use))
        for number, entry in enumerate(kernels):
            try:
                metadata = read_metadata(entry.path)
            except CacheCorrupt:
                if not self._remove(entry, f"kernel {entry.key[:12]}, which is damaged"):
                    kept_kernels.add(entry.key)
                continue
            label = f"kernel {metadata.version} ({entry.key[:12]})"
            if number >= keep and not self._is_young(entry) and self._remove(entry, label):
                continue
            kept_sources.add(metadata.source_digest)
            kept_kernels.add(entry.key)
        for trees in TREES:
            remove_unused(self._store.root, kept_kernels, kind=trees)
        kept: dict[str, Callable[[Entry], bool]] = {
            source.KIND: lambda entry: entry.key in kept_sources,
            MODULES: lambda entry: entry.key.partition("-")[0] in kept_kernels,
        }
        for other in self._store.kinds():
            if other in (KIND, PACKAGES):
                continue
            is_kept = kept.get(other, self._is_young)
            for entry in self._store.entries(other):
                if not is_kept(entry):
                    self._remove(entry, f"{other} {entry.key[:12]}")
        return Pruned(
            removed=tuple(self._removed), in_use=tuple(self._in_use), freed_bytes=self._freed
        )

    def _is_young(self, entry: Entry) -> bool:
        return self._ages.age_s(entry.last_use) < self._unused_for_s

    def _remove(self, entry: Entry, label: str) -> bool:
        if not self._store.remove(entry.kind, entry.key):
            self._in_use.append(label)
            return False
        self._removed.append(label)
        self._freed += entry.size_bytes or 0
        return True


def known_objects(store: Store, description: str) -> int:
    """Return how many objects the last build of the same sources, or of any, compiled."""
    counts = [
        (metadata.source == description, int(metadata.objects))
        for _, metadata in _described(store.entries(KIND))
        if metadata.objects.isdecimal()
    ]
    same = [count for is_same, count in counts if is_same]
    return (same or [count for _, count in counts] or [_USUAL_OBJECTS])[0]
