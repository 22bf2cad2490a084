# SPDX-License-Identifier: GPL-2.0-only
"""What ran of the user's own modules in a guest: counted while they are loaded."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from typing import TYPE_CHECKING

from harness.observer.module_map import sections_of
from harness.observer.shared_file import MODULES, SharedFile
from harness.vm.guest.machine import ModuleWatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.vm.guest.machine import Machine

SUFFIX = ".modules"
"""Ends the names of the files with what ran of modules, beside the shared files."""

COUNTED = ((MODULES[0], MODULES[0] + (32 << 20)), (0xFFFFFFFFC0000000, 0xFFFFFFFFC2000000))
"""Where modules are loaded first, on a kernel without CONFIG_RANDOMIZE_BASE and with it."""


class ModuleLines(ModuleWatch):
    """Follows some modules of a guest from now on, and counts what runs of them.

    The counters belong to addresses, and modules take turns there: what other modules have
    counted before is taken off. ``also`` is what follows all modules.
    """

    def __init__(self, machine: Machine, modules: Sequence[Path], also: ModuleWatch) -> None:
        assert machine.hypervisor.observed is not None
        self._machine = machine
        self._path: Path = machine.hypervisor.observed
        self._modules = {path.resolve() for path in modules}
        self._also = also
        # By name: the file, where its sections are, and what the counters were before.
        self._loaded: dict[str, tuple[Path, dict[str, int], Counter[int]]] = {}
        self._ran: dict[Path, Counter[tuple[str, int]]] = {}
        machine.module_watch = self

    @contextlib.contextmanager
    def loading(self, name: str, source: Path | None) -> Iterator[None]:
        """Take note of where the module is when it is loaded."""
        ours = source is not None and source.resolve() in self._modules
        before = self._counters() if ours else Counter[int]()
        try:
            with self._also.loading(name, source):
                yield
        finally:
            if ours and source is not None:
                sections = self._sections(name, tuple(sections_of(source)))
                if sections:
                    self._loaded[name] = (source, sections, before)

    @contextlib.contextmanager
    def unloading(self, name: str) -> Iterator[None]:
        """Count what ran of the module until it is gone."""
        with self._also.unloading(name):
            yield
        self._count(name)

    def keep(self) -> None:
        """Count what ran of modules that are still loaded, and write all beside the shared file."""
        for name in tuple(self._loaded):
            self._count(name)
        ran = {
            str(path): [(section, offset, times) for (section, offset), times in counts.items()]
            for path, counts in self._ran.items()
        }
        self._path.with_suffix(SUFFIX).write_text(json.dumps(ran))

    def _count(self, name: str) -> None:
        source, sections, before = self._loaded.pop(name, (None, {}, Counter[int]()))
        if source is None:
            return
        sizes = sections_of(source)
        places = [(section, start, start + sizes[section]) for section, start in sections.items()]
        counts = self._ran.setdefault(source, Counter())
        for address, times in (self._counters() - before).items():
            for section, start, end in places:
                if start <= address < end:
                    counts[section, address - start] += times

    def _counters(self) -> Counter[int]:
        """Return how often each instruction ran that is or was of a module."""
        return Counter(dict(SharedFile(self._path).counters(MODULES[0])))

    def _sections(self, name: str, sections: Sequence[str]) -> dict[str, int]:
        found = {}
        for section in sections:
            # It may be gone again: its init has failed.
            with contextlib.suppress(OSError, ValueError):
                text = self._machine.read(f"/sys/module/{name}/sections/{section}")
                found[section] = int(text.strip(), 16)
        return found


def read_ran(path: Path) -> Mapping[str, Counter[tuple[str, int]]]:
    """Return what ran of each module in a guest, by section and offset; raises OSError."""
    return {
        module: Counter({(section, offset): times for section, offset, times in counts})
        for module, counts in json.loads(path.read_text()).items()
    }
