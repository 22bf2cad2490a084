# SPDX-License-Identifier: GPL-2.0-only
"""Guests in which klp-duel waits in some state, each saved once; a trial is a clone of one."""

from __future__ import annotations

import contextlib
import re
import shlex
import threading
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from harness.errors import HarnessError, UsageError
from harness.log import LOGGER
from harness.observer.accesses import notes_accesses
from harness.tools.race.explore.actions import (
    ACTIONS,
    EXIT,
    GATE,
    GATE_MODULE,
    HELD_OTHER,
    RETRY_MODULE,
    SYSTEM_STATE,
    TARGET,
    insmod,
)
from harness.tools.race.explore.consistency import invariants_of
from harness.tools.race.explore.duel import (
    FAILED,
    PROGRAM,
    READY,
    DuelPages,
    find_pages,
    saved_modules,
)
from harness.tools.race.explore.idle import IdleGuests
from harness.tools.race.explore.kernel_code import KernelCode
from harness.vm.guest.initramfs import MODULE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.observer.watch import Watch
    from harness.tools.race.explore.consistency import Invariants
    from harness.tools.race.explore.pairs import State
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.guest.snapshot import Template
    from harness.vm.kernel.kernel import Kernel

_READY_S = 60.0
_MODULE = re.compile(rf"{MODULE_DIR}/(\w+)\.ko|rmmod (\w+)")
_SUBJECTS = (GATE, TARGET, EXIT, SYSTEM_STATE)


def guest_modules(modules: Mapping[str, Path]) -> dict[str, Path]:
    """Return the modules that actions and states need, by their paths in the guest."""
    names = {GATE_MODULE, HELD_OTHER, RETRY_MODULE}
    for subject in _SUBJECTS:
        names |= {subject.patch, subject.other, subject.held}
    for action in ACTIONS.values():
        names |= set(action.needs)
        for step in (*action.steps, *action.after):
            found = _MODULE.search(step)
            names |= {each for each in found.groups() if each} if found is not None else set()
    return {f"{MODULE_DIR}/{name}.ko": modules[name] for name in sorted(names) if name in modules}


@dataclass(kw_only=True)
class Scene:
    """A guest in a state, in which klp-duel waits. ``invariants`` judge its trials.

    ``idle`` are clones that have made trials already; ``files`` those of modules, by name.
    ``unserved_works``: QEMU stops at breakpoints while its gdb server is closed. ``name_at`` is how
    far from a task's beginning its name is.
    """

    state: State
    saved: Template
    pages: DuelPages
    code: KernelCode
    spin: int
    idle: IdleGuests
    files: Mapping[str, Path]
    invariants: Invariants | None = None
    unserved_works: bool = False
    name_at: int | None = None

    def noting(self, passages: Iterable[int] = ()) -> Template | None:
        """Return the template of guests whose accesses to memory are noted, if that is of use.

        And with them where CPU 0 comes by some addresses. Where readers of RCU are preempted, it is
        not known who waits for A. With KASAN QEMU does not say in time what is mapped, which is the
        shadow of all memory too. With KCSAN all accesses meet in its table. And of a CPU that the
        plugin has to find in GS, accesses in the first instructions of an interrupt are not known.
        """
        shape = self.saved.shape
        code = self.code
        checks = code.has_kasan or code.has_kcsan
        if shape.plugin is None or code.preempts_readers or checks or code.unseen:
            return None
        if not notes_accesses(shape.plugin):
            return None
        plugin = self.code.noting(shape.plugin, passages)
        return replace(self.saved, shape=replace(shape, plugin=plugin))


class Scenes:
    """Prepares the scene of a state when it is first asked for. Several threads may use it."""

    def __init__(
        self,
        session: Session,
        kernel: Kernel,
        *,
        watch: Watch | None = None,
        modules: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """``watch``: the guests of the session have its plugin, and trials are judged by it.

        ``modules`` are the files of modules, by name.
        """
        self.session = session
        self.kernel = kernel
        self._watch = watch
        self._modules = modules
        self._stacks: dict[State, contextlib.ExitStack] = {}
        self._lock = threading.Lock()
        self._locks: dict[State, threading.Lock] = {}
        self._known: dict[State, Scene] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for stack in self._stacks.values():
            stack.close()

    @property
    def time_scale(self) -> float:
        """How much slower than hardware its guests are."""
        return self.session.settings.time_scale * self.kernel.slowness

    def get(self, state: State) -> Scene:
        """Return the scene of a state; raises what its preparation raises."""
        with self._lock:
            lock = self._locks.setdefault(state, threading.Lock())
        with lock:
            known = self._known.get(state)
            if known is None:
                known = self._prepare(state)
                self._known[state] = known
            return known

    def drop(self, state: State) -> None:
        """Free the memory of a scene that is not needed any more."""
        with self._lock:
            stack = self._stacks.pop(state, None)
            self._known.pop(state, None)
        if stack is not None:
            stack.close()

    def _prepare(self, state: State) -> Scene:
        magic: list[int] = []
        observed: list[Path] = []
        code = KernelCode(self.kernel)
        if code.unseen:
            LOGGER.warning(
                "all points are tried: this kernel has no %s of its own", ", ".join(code.unseen)
            )

        def change(machine: Machine) -> None:
            if self._watch is not None and machine.hypervisor.observed is not None:
                observed.append(machine.hypervisor.observed)
            code.take_start(machine.run(["grep", "-m1", "-wF", "_stext", "/proc/kallsyms"]).stdout)
            magic.append(_start_duel(machine, state, code.symbol("klp_transition_work")))

        with contextlib.ExitStack() as stack:
            made = self.session.changed(self.kernel, change, name=f"state-{state.name.value}")
            saved, invariants = stack.enter_context(made), None
            pages = find_pages(saved.ram_path, magic[0])
            loaded = saved_modules(saved.ram_path, pages)
            if self._watch is not None and observed:
                points = self._watch.points(self.kernel)
                invariants = invariants_of(observed[0], points, loaded, self._modules)
                saved = invariants.going_on(saved)
            idle = IdleGuests()
            stack.callback(idle.close)
            scene = Scene(
                state=state,
                saved=saved,
                pages=pages,
                code=code.with_modules(loaded, self._modules),
                spin=code.padding(),
                idle=idle,
                files=self._modules,
                invariants=invariants,
            )
            with self._lock:
                self._stacks[state] = stack.pop_all()
        return scene


def _start_duel(machine: Machine, state: State, work: int) -> int:
    """Have klp-duel make a state, and return by what its pages are found; raises HarnessError.

    ``work`` is where klp_transition_work lies.
    """
    retry = f"first {insmod(RETRY_MODULE, f'work={work:#x}')}"
    words = shlex.join((PROGRAM, retry, *state.steps()))
    started = machine.run(["sh", "-c", f"setsid {words} </dev/null >/dev/kmsg 2>&1 &"])
    if not started.ok:
        raise HarnessError(f"{PROGRAM} does not start: {started.stderr.strip()}")
    console = machine.hypervisor.console

    def has_said() -> bool:
        return re.search(f"{READY}|{FAILED}", console.text()) is not None

    has_ended = machine.wait(has_said, machine.scaled(_READY_S))
    found = re.search(READY, console.text())
    if found is None:
        failed = re.search(FAILED, console.text())
        why = failed[1] if failed is not None else "it takes too long" if not has_ended else ""
        raise HarnessError(f"{state} cannot be prepared: {why}", details=console.tail())
    return int(found[1], 16)


def require_tcg(accel: str) -> None:
    """Raise UsageError for an accelerator under which no CPU can be held."""
    if accel != "tcg":
        raise UsageError(
            f"interleavings are explored under TCG, and not under {accel}",
            hint="take --accel tcg, or leave --accel out",
        )
