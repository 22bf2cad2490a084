# SPDX-License-Identifier: GPL-2.0-only
"""Guests in which klp-duel waits in some state, each saved once; a trial is a clone of one."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from harness.agent_protocol import Op
from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.observer.accesses import notes_accesses
from harness.tools.race.explore.actions import (
    ACTIONS,
    EXIT,
    GATE,
    GATE_MODULE,
    HELD_OTHER,
    HELD_STATES,
    PATCHES,
    SYSTEM_STATE,
    TARGET,
    StateName,
)
from harness.tools.race.explore.consistency import Follower
from harness.tools.race.explore.duel import PROGRAM, READY, DuelPages, find_pages
from harness.tools.race.explore.kernel_code import KernelCode
from harness.vm.guest.control import short_path
from harness.vm.guest.gdb_client import GdbClient
from harness.vm.guest.gdb_server import GDB_SOCKET, open_gdb_server
from harness.vm.guest.initramfs import MODULE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from harness.observer.watch import Watch
    from harness.tools.race.explore.consistency import Invariants
    from harness.tools.race.explore.pairs import State
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.guest.snapshot import Clone, Template
    from harness.vm.kernel.kernel import Kernel

_TRANSITION_S = 30.0
_READY_S = 10.0
_GDB_S = 20.0
_MODULE = re.compile(rf"{MODULE_DIR}/(\w+)\.ko|rmmod (\w+)")
_WAITING = "/proc/klp_gate_waiting"
_GATE = "/dev/klp_gate"
_CPU_OF_B = "2"  # as a mask
_SUBJECTS = (GATE, TARGET, EXIT, SYSTEM_STATE)


def guest_modules(modules: Mapping[str, Path]) -> dict[str, Path]:
    """Return the modules that actions and states need, by their paths in the guest."""
    names = {GATE_MODULE, HELD_OTHER}
    for subject in _SUBJECTS:
        names |= {subject.patch, subject.other, subject.held}
    for action in ACTIONS.values():
        names |= set(action.needs)
        for step in (*action.steps, *action.after):
            found = _MODULE.search(step)
            names |= {each for each in found.groups() if each} if found is not None else set()
    return {f"{MODULE_DIR}/{name}.ko": modules[name] for name in sorted(names) if name in modules}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A guest in a state, in which klp-duel waits. ``invariants`` judge its trials."""

    state: State
    saved: Template
    pages: DuelPages
    code: KernelCode
    spin: int
    invariants: Invariants | None = None

    def noting(self, passages: Iterable[int] = ()) -> Template | None:
        """Return the template of guests whose accesses to memory are noted, if that is of use.

        And with them where CPU 0 comes by some addresses. A kernel that preempts does other things
        while A is held with preemption off than it does at the next point. And of a CPU that the
        plugin has to find in GS, accesses in the first instructions of an interrupt are not known.
        """
        shape = self.saved.shape
        if shape.plugin is None or self.code.preempts or not notes_accesses(shape.plugin):
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
        followers: list[Follower] = []
        code = KernelCode(self.kernel)

        def change(machine: Machine) -> None:
            if self._watch is not None:
                followers.append(Follower(machine, self._watch.points(self.kernel)))
            _Stage(machine, state, self._modules).set()
            magic.append(_start_duel(machine))
            listed = machine.run(["grep", "-e", r"\[", "-e", " _stext$", "/proc/kallsyms"])
            code.take_modules(listed.stdout)

        with contextlib.ExitStack() as stack:
            made = self.session.changed(self.kernel, change, name=f"state-{state.name.value}")
            saved, invariants = stack.enter_context(made), None
            if followers:
                saved, invariants = followers[0].saved(saved, self._modules)
            scene = Scene(
                state=state,
                saved=saved,
                pages=find_pages(saved.ram_path, magic[0]),
                code=code,
                spin=code.padding(),
                invariants=invariants,
            )
            with self._lock:
                self._stacks[state] = stack.pop_all()
        return scene


class _Stage:
    """Has a guest be in a state; raises what refuses that."""

    def __init__(self, machine: Machine, state: State, files: Mapping[str, Path]) -> None:
        self._machine, self._state, self._files = machine, state, files

    def set(self) -> None:
        """Do it."""
        machine, state = self._machine, self._state
        subject = state.subject
        for name in dict.fromkeys((GATE_MODULE, *state.modules)):
            self._load(name)
        held = state.name in HELD_STATES
        if state.name is not StateName.IDLE and not (held and subject.patch == subject.held):
            self._load(subject.patch)
            self._await_transition(subject.patch)
        match state.name:
            case StateName.STACKED:
                self._load(subject.other)
                self._await_transition(subject.other)
            case StateName.OPEN:
                _hold(machine)
                self._load(subject.held, on_b=True)
            case StateName.CLOSING | StateName.REPLACING:
                self._load(subject.held)
                self._await_transition(subject.held)
                _hold(machine)
                if state.name is StateName.CLOSING:
                    enabled = f"{PATCHES}/{subject.held}/enabled"
                    _on_cpu_of_b(machine, "sh", "-c", f"echo 0 >{enabled}")
                else:
                    self._load(HELD_OTHER, "replace=1", on_b=True)

    def _load(self, name: str, *parameters: str, on_b: bool = False) -> None:
        """Load a module; ``on_b``: on B's CPU, so that the kernel's retries are not held with A."""
        path = f"{MODULE_DIR}/{name}.ko"
        with self._machine.module_watch.loading(name, self._files.get(name)):
            if on_b:
                _on_cpu_of_b(self._machine, "insmod", path, *parameters)
            else:
                self._machine.insmod(path, " ".join(parameters))

    def _await_transition(self, patch: str) -> None:
        machine = self._machine
        deadline = machine.scaled(_TRANSITION_S)
        path = f"{PATCHES}/{patch}/transition"
        polled = machine.poll_file(path, Op.EQUALS, "0", deadline=deadline)
        if polled.errno:
            raise HarnessError(f"the transition of {patch} does not end, before anything is tried")


def _on_cpu_of_b(machine: Machine, *command: str) -> None:
    ran = machine.run(["taskset", _CPU_OF_B, *command])
    if not ran.ok:
        raise HarnessError(f"{' '.join(command)}: {ran.stderr.strip()}")


def _hold(machine: Machine) -> None:
    """Have a task sleep in a patched function, so that the next transition stays open."""
    machine.write(_GATE, "close 0")
    _in_background(machine, f"taskset {_CPU_OF_B} klp-gate read 0", "/dev/null")
    deadline = machine.scaled(_READY_S)
    if not machine.wait(lambda: bool(machine.read(_WAITING).strip()), deadline):
        raise HarnessError("no task sleeps in the gate that has to hold the transition")


def _in_background(machine: Machine, command: str, output: str) -> None:
    """Start a program of the guest that stays when the connection ends."""
    line = f"setsid {command} </dev/null >{output} 2>&1 &"
    ran = machine.run(["sh", "-c", line])
    if not ran.ok:
        raise HarnessError(f"{command} does not start: {ran.stderr.strip()}")


def _start_duel(machine: Machine) -> int:
    """Start klp-duel, and return by what its pages are found."""
    _in_background(machine, PROGRAM, "/dev/kmsg")
    console = machine.hypervisor.console
    if not machine.wait(
        lambda: re.search(READY, console.text()) is not None, machine.scaled(_READY_S)
    ):
        raise HarnessError(f"{PROGRAM} does not get ready", details=console.tail())
    found = re.search(READY, console.text())
    assert found is not None
    return int(found[1], 16)


@contextlib.contextmanager
def gdb_of(clone: Clone) -> Iterator[GdbClient]:
    """Connect to the gdb server of a guest that has not been continued yet."""
    open_gdb_server(clone.hypervisor.monitor, clone.folder, Deadline.after(_GDB_S))
    with socket.socket(socket.AF_UNIX) as sock:
        with short_path(clone.folder) as place:
            sock.connect(f"{place}/{GDB_SOCKET}")
        yield GdbClient(sock)


def require_tcg(accel: str) -> None:
    """Raise UsageError for an accelerator under which no CPU can be held."""
    if accel != "tcg":
        raise UsageError(
            f"interleavings are explored under TCG, and not under {accel}",
            hint="take --accel tcg, or leave --accel out",
        )
