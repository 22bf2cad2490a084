# SPDX-License-Identifier: GPL-2.0-only
"""The observer's invariants on a trial: no task enters what its patch state does not allow.

The model has judged the guest until its scene was saved. Each trial goes on from there, with what
QEMU's plugin reports of the clone, until A and B have ended and all has settled.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.observer.consistency_points import Step
from harness.observer.module_code import add_module, read_module
from harness.observer.oracle import Oracle
from harness.observer.shared_file import Head, Kind, SharedFile
from harness.observer.violation_text import in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.observer.consistency import Model
    from harness.observer.consistency_points import ConsistencyPoints
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.snapshot import Template

_UNLOADS = ("rmmod ", "unload ")
_COMM_BYTES = 16


class Follower:
    """Follows what a scene loads, with `Oracle`, until the scene is saved."""

    def __init__(self, machine: Machine, points: ConsistencyPoints) -> None:
        self._model = Oracle(machine, points).model
        self._points = points
        assert machine.hypervisor.observed is not None
        self._path: Path = machine.hypervisor.observed

    def saved(self, made: Template, files: Mapping[str, Path]) -> tuple[Template, Invariants]:
        """Return the template for clones whose events go on, and what judges them.

        ``files`` are those of modules, by name. Raises HarnessError when something is wrong before
        anything was tried.
        """
        shared = SharedFile(self._path)
        verdict = self._model.judge(shared.events())
        if not verdict.holds:
            found = ", ".join(verdict.kinds)
            raise HarnessError(f"consistency is violated before anything is tried: {found}")
        head = Head.from_buffer_copy(shared.head)
        head.n_events = head.n_repeated = 0
        plugin = made.shape.plugin
        assert plugin is not None
        self._path.unlink(missing_ok=True)
        shape = replace(made.shape, plugin=replace(plugin, head=bytes(head)))
        invariants = Invariants(self._model, self._points, verdict.events, files)
        return replace(made, shape=shape), invariants


@dataclass(frozen=True)
class Violations:
    """What violates consistency in a trial: the first kind, and all in words."""

    kind: str
    details: tuple[str, ...]


class Invariants:
    """Judges the trials of a scene. Several threads may use it."""

    def __init__(
        self,
        model: Model,
        points: ConsistencyPoints,
        since: int,
        files: Mapping[str, Path],
    ) -> None:
        """``since`` is how many events the model has judged."""
        self._model, self._points = model, points
        self._since, self._files = since, files

    def judge(
        self,
        observed: Path,
        until: int | None,
        *,
        loaded: Mapping[str, Mapping[str, int]],
        steps: Sequence[str],
        memory: Callable[[int, int], bytes],
    ) -> Violations | None:
        """Return what is wrong with the first events of a clone; None: nothing.

        ``loaded`` are the modules that A and B have loaded, with the addresses of their sections;
        ``steps`` are those of both; ``memory(address, bytes)`` reads the guest's.
        """
        events = list(itertools.islice(SharedFile(observed).events(), until))
        model = self._model.copy()
        frees = [
            number
            for number, event in enumerate(events, self._since)
            if event.kind == Kind.POINT and self._points.steps.get(event.where) is Step.FREE
        ]
        for name, sections in loaded.items():
            self._load(model, name, sections, frees)
        self._unload(model, steps, frees)
        verdict = model.judge(events, self._since)
        if verdict.holds:
            return None
        details = in_words(verdict, lambda task: self._name(task, memory), clock=False)
        return Violations(next(iter(verdict.kinds)), tuple(details))

    def _load(
        self, model: Model, name: str, sections: Mapping[str, int], frees: Sequence[int]
    ) -> None:
        source = self._files.get(name)
        if source is None:
            return
        code = read_module(source)
        text = list(code.text(sections))
        since = self._since
        # Where another module was, it cannot be before that one was freed.
        if frees and any(model.text_in(since, each.start, each.end) for each in text):
            since = frees[0]
        add_module(model, name, code, sections, since)

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
