# SPDX-License-Identifier: GPL-2.0-only
"""The observer's invariants on a trial: no task enters what its patch state does not allow.

The model has judged the guest until its scene was saved. The first trial of a clone goes on from
there, with what QEMU's plugin reports, until A and B have ended and all has settled. A later one is
judged from before its scene is made again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.observer.consistency import Model
from harness.observer.consistency_points import Step
from harness.observer.module_code import add_module, read_module
from harness.observer.shared_file import Head, Kind, SharedFile
from harness.observer.violation_text import in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.observer.consistency_points import ConsistencyPoints
    from harness.observer.module_code import ModuleCode, Place
    from harness.observer.shared_file import Event
    from harness.tools.race.explore.duel import Modules
    from harness.vm.guest.snapshot import Template

_UNLOADS = ("rmmod ", "unload ")
_COMM_BYTES = 16


def invariants_of(
    observed: Path, points: ConsistencyPoints, loaded: Modules, files: Mapping[str, Path]
) -> Invariants:
    """Return what judges the trials of a scene, whose guest has written ``observed`` until now.

    ``loaded`` are the modules that klp-duel has loaded, ``files`` those of modules, by name. Raises
    HarnessError when something is wrong before anything was tried.
    """
    shared, model = SharedFile(observed), Model(points)
    events = list(shared.events())
    _Loader(model, points, events, 0, ()).add(loaded, files)
    verdict = model.judge(events)
    if not verdict.holds:
        found = ", ".join(verdict.kinds)
        raise HarnessError(f"consistency is violated before anything is tried: {found}")
    head = Head.from_buffer_copy(shared.head)
    head.n_events = head.n_repeated = 0
    observed.unlink(missing_ok=True)
    return Invariants(points, files, model, bytes(head))


def events_of(observed: Path, first: int, until: int | None) -> list[Event]:
    """Return the events of a trial. Raises HarnessError when some of them are lost."""
    shared = SharedFile(observed)
    if shared.lost:
        raise HarnessError(f"{shared.lost} events of the guest were lost")
    count = None if until is None else until - first
    return list(itertools.islice(shared.events(first), count))


@dataclass(frozen=True)
class Violations:
    """What violates consistency in a trial: the first kind, and all in words."""

    kind: str
    details: tuple[str, ...]


class Invariants:
    """Judges the trials of a scene. Several threads may use it."""

    def __init__(
        self,
        points: ConsistencyPoints,
        files: Mapping[str, Path],
        scene: Model,
        head: bytes = b"",
    ) -> None:
        """``scene`` has judged a guest until its scene was saved; ``head`` is its plugin's then."""
        self._points, self._files = points, files
        self._bare, self._scene = Model(points), scene
        self._head = head

    def going_on(self, made: Template) -> Template:
        """Return the template for clones whose events go on from those of the scene."""
        plugin = made.shape.plugin
        assert plugin is not None
        return replace(made, shape=replace(made.shape, plugin=replace(plugin, head=self._head)))

    def judge(
        self,
        events: Sequence[Event],
        *,
        from_scene: bool,
        loaded: Modules,
        later: Modules,
        armed: int,
        steps: Sequence[str],
        memory: Callable[[int, int], bytes],
    ) -> Violations | None:
        """Return what is wrong with the events of a trial; None: nothing.

        They go on ``from_scene``, or else they begin before anything was loaded. ``loaded`` are the
        modules that were loaded in them, and ``later`` those that A and B have loaded, after the
        first ``armed`` events; ``steps`` are those of A and B; ``memory(address, bytes)``
        reads the guest's.
        """
        model = (self._scene if from_scene else self._bare).copy()
        since = model.verdict.events
        frees = [
            number
            for number, event in enumerate(events, since)
            if event.kind == Kind.POINT and self._points.steps.get(event.where) is Step.FREE
        ]
        loader = _Loader(model, self._points, events, since, frees)
        loader.add(loaded, self._files)
        loader.add(later, self._files, behind=armed)
        self._unload(model, steps, frees)
        verdict = model.judge(events, since)
        if verdict.holds:
            return None
        details = in_words(verdict, lambda task: self._name(task, memory), clock=False)
        return Violations(next(iter(verdict.kinds)), tuple(details))

    def _unload(self, model: Model, steps: Sequence[str], frees: Sequence[int]) -> None:
        gone = [step.split()[1] for step in steps if step.startswith(_UNLOADS)]
        if len(gone) == len(frees) == 1:
            model.add_own_frees(frees[0], frees[0] + 1)
            model.add_unload(frees[0], gone[0])
        else:
            # Nothing shows which of them it was: after the first one, none of them is judged.
            model.lost_modules = frozenset(gone)

    def _name(self, task: int, memory: Callable[[int, int], bytes]) -> str:
        offsets = self._points.offsets["task_struct"]
        comm = memory(task + offsets["comm"], _COMM_BYTES).partition(b"\0")[0]
        pid = int.from_bytes(memory(task + offsets["pid"], 4), "little")
        return f"{comm.decode(errors='replace')} ({pid})"


@dataclass(frozen=True)
class _Loader:
    """Adds modules that were loaded to a model, each from the right event on.

    When it was loaded is not known, and its text may lie where that of another one was, or an init
    function. But no task is in a version of a livepatch before the kernel has written to its
    klp_func, and no version of a target is right or wrong before that.
    """

    model: Model
    points: ConsistencyPoints
    events: Sequence[Event]
    since: int
    frees: Sequence[int]

    def add(self, loaded: Modules, files: Mapping[str, Path], *, behind: int = 0) -> None:
        """Add them, with their addresses and files by name; not before so many of the events."""
        known = {name: read_module(files[name]) for name in loaded if name in files}
        end = self.since + len(self.events)
        # Livepatches first: they say which functions of a target count.
        for name, code in sorted(known.items(), key=lambda each: not each[1].versions):
            sections = loaded[name]
            own = frozenset(sections[section] + at for section, at in _places(code, sections))
            functions = own or self.model.functions_of(name, end)
            since = self._first_store(functions, self.since + behind)
            if since is not None:
                add_module(self.model, name, code, sections, since)

    def _first_store(self, functions: frozenset[int], start: int) -> int | None:
        """Return the first event from there on that writes to one of these klp_funcs."""
        if self.frees and any(self.model.knows(self.since, address) for address in functions):
            start = max(start, self.frees[0])  # one that is gone was there before
        offsets = self.points.offsets["klp_func"]
        fields = (offsets["transition"], offsets["patched"])
        for number, event in enumerate(self.events, self.since):
            if number < start or event.where not in self.points.byte_stores:
                continue
            if any(event.data - field in functions for field in fields):
                return number
        return None


def _places(code: ModuleCode, sections: Mapping[str, int]) -> tuple[Place, ...]:
    return tuple(each.place for each in code.versions if each.place[0] in sections)
