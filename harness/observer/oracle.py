# SPDX-License-Identifier: GPL-2.0-only
"""The oracle of one guest: follows its modules, and judges the consistency of all that it ran."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from harness.errors import ConsistencyViolated, EventsLost, KlpError
from harness.observer.consistency import Model
from harness.observer.consistency_points import Step
from harness.observer.guest_versions import read_versions
from harness.observer.judged import keep_verdict
from harness.observer.module_code import add_filled, add_module, read_module
from harness.observer.shared_file import SharedFile, write_functions
from harness.observer.violation_text import in_words
from harness.vm.guest.machine import ModuleWatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harness.observer.consistency_points import ConsistencyPoints
    from harness.observer.shared_file import Function
    from harness.observer.versions import Verdict
    from harness.vm.guest.machine import Machine

EVENTS = 1 << 26
"""For how many events a guest has room, of 32 bytes each; the file grows when they are written."""

_READ_S = 10.0
_MOST_FILLED = 1000
_BYTES = re.compile(r"0x([0-9a-f]{2})\b")
_COMM_BYTES = 16


class Oracle(ModuleWatch):
    """Follows the modules of a guest from now on; `verdict` judges the guest's events."""

    def __init__(self, machine: Machine, points: ConsistencyPoints) -> None:
        assert machine.hypervisor.observed is not None
        self._machine = machine
        self._points = points
        self._path: Path = machine.hypervisor.observed
        self._model = Model(points)
        self._verdict: Verdict | None = None
        # Where the sections are of the modules that were loaded here.
        self._modules: dict[str, dict[str, int]] = {}
        # What the plugin knows of the text of each module; "" are the kernel's own functions.
        self._text: dict[str, tuple[Function, ...]] = {"": tuple(points.functions())}
        machine.module_watch = self

    @property
    def model(self) -> Model:
        """The model of the modules that were loaded, which has judged nothing before `check`."""
        return self._model

    @contextlib.contextmanager
    def loading(self, name: str, source: Path | None) -> Iterator[None]:
        """Take note of the module's addresses when it is loaded."""
        since = self._events()
        try:
            yield
        finally:
            self._model.add_own_frees(since, self._events())
        if source is None:
            return
        code = read_module(source)
        sections = self._sections(name, code.sections())
        add_module(self._model, name, code, sections, since)
        self._add_filled(name, since)
        self._modules[name] = sections
        self._text[name] = tuple(code.text(sections))
        self._say_text()

    def _add_filled(self, name: str, since: int) -> None:
        """Tell the model of the klp_funcs that the module has filled while it was loaded."""
        offset = self._points.offsets["klp_func"]["transition"]
        stored = {
            event.data - offset: None
            for event in SharedFile(self._path).events(since)
            if (store := self._points.byte_stores.get(event.where)) is not None
            and store.function == Step.INIT
        }
        unknown = [address for address in stored if not self._model.knows(since, address)]
        with contextlib.suppress(KlpError):
            found = read_versions(unknown[:_MOST_FILLED], self._memory, self._points.offsets)
            for each in found:
                add_filled(self._model, name, each, since)

    @contextlib.contextmanager
    def unloading(self, name: str) -> Iterator[None]:
        """Take note that a module's text is freed."""
        since = self._events()
        try:
            yield
        finally:
            self._model.add_own_frees(since, self._events())
        self._model.add_unload(self._events(), name)
        self._modules.pop(name, None)
        if self._text.pop(name, None):
            self._say_text()

    def _sections(self, name: str, sections: Iterable[str]) -> dict[str, int]:
        """Return where sections of a module are now; those of one that is not loaded are nowhere.

        It may be gone again: its init has failed, or a test was quicker.
        """
        found = {}
        for section in sections:
            with contextlib.suppress(OSError, ValueError):
                text = self._machine.read(f"/sys/module/{name}/sections/{section}")
                found[section] = int(text.strip(), 16)
        return found

    def _lost_modules(self) -> frozenset[str]:
        """Return the modules that were loaded here, and are not where they were.

        A program in the guest has unloaded them. Of a guest that is gone, it may be any.
        """
        lost = set()
        for name, sections in self._modules.items():
            first = list(sections)[:1]
            try:
                is_there = all(self._sections(name, first).get(s) == sections[s] for s in first)
            except KlpError:
                is_there = False
            if not is_there:
                lost.add(name)
        return frozenset(lost)

    def check(self) -> Verdict:
        """Judge the guest, while it runs; what it does afterwards is not judged any more.

        Raises ConsistencyViolated, which says the violations in words, and EventsLost when not all
        events are there.
        """
        if self._verdict is not None:
            return self._verdict
        self._model.lost_modules = self._lost_modules()
        shared = SharedFile(self._path)
        verdict = self._model.judge(shared.events())
        verdict.repeated = int(shared.head.n_repeated)
        self._verdict = verdict
        keep_verdict(self._path, verdict, lost=shared.lost)
        if not verdict.holds:
            names: dict[int, str] = {}
            lines = in_words(verdict, lambda task: self._name(task, names))
            total = sum(verdict.kinds.values())
            raise ConsistencyViolated(
                f"consistency is violated {total} {'time' if total == 1 else 'times'}: {lines[0]}",
                details=tuple(lines[1:]),
                artefacts=self._machine.folder,
            )
        if shared.lost:
            raise EventsLost(
                f"{shared.lost} events of {shared.head.n_events} are lost: consistency cannot be "
                "judged to the end",
                hint="the test calls functions of its modules too often for --oracle",
            )
        return verdict

    def _say_text(self) -> None:
        functions = [each for text in self._text.values() for each in text]
        write_functions(self._path, functions)

    def _events(self) -> int:
        return int(SharedFile(self._path).head.n_events)

    def _name(self, task: int, known: dict[int, str]) -> str:
        """Return the name and id of a task, read from the guest's memory."""
        if task not in known:
            known[task] = f"the task at {task:#x}"
            with contextlib.suppress(KlpError, IndexError):
                offsets = self._points.offsets["task_struct"]
                comm = self._memory(task + offsets["comm"], _COMM_BYTES)
                pid = int.from_bytes(self._memory(task + offsets["pid"], 4), "little")
                name = comm.partition(b"\0")[0].decode(errors="replace")
                known[task] = f"{name} ({pid})"
        return known[task]

    def _memory(self, address: int, size: int) -> bytes:
        command = f"x /{size}xb {address:#x}"
        text = self._machine.hypervisor.monitor.human(
            command, deadline=self._machine.scaled(_READ_S)
        )
        found = bytes(int(byte, 16) for line in text.splitlines() for byte in _BYTES.findall(line))
        return found[:size]
