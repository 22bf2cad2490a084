# SPDX-License-Identifier: GPL-2.0-only
"""The schedule fuzzer: random steps in a guest, with a check of the kernel's state after each."""

from __future__ import annotations

import dataclasses
import errno
import functools
import re
import signal
from typing import TYPE_CHECKING

from harness.errors import KernelSplat, ModuleRefused, RaceShown, TransitionTimeout, errno_text
from harness.livepatch.gates import Body
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.fuzz_model import (
    CALLED_GATE,
    ORIGINAL,
    PATCHES,
    TARGET,
    Model,
    Step,
)
from harness.tools.race.reproducers.fuzz_plan import make_steps
from harness.tools.race.reproducers.storm import expect_settled, start_storm
from harness.tools.race.trial_context import chance_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.livepatch.gates import GateTask
    from harness.livepatch.patch import Patch
    from harness.tools.race.reproducer import Reproducer
    from harness.tools.race.reproducers.fuzz_model import Verb
    from harness.tools.race.trial_context import TrialContext
    from harness.vm.guest.spawned import SpawnedProcess

_CMDLINE = "/proc/cmdline"
_PATCHED_CMDLINE = re.compile(r"(\w+): this has been live patched")
_PAIR = "/sys/kernel/klp_target/pair"
_HOOKS = "/sys/kernel/tracing/enabled_functions"
_ALL_FUNCTIONS = frozenset(name for patch in PATCHES.values() for name in patch.functions)
# A transition that nobody blocks ends with the kernel's next attempt, a second later.
_SETTLE_S = 12.0
_NAME = "fuzz-schedule"
_LEAVE = Step("leave")


@reproducer(_NAME, rule="TR-02", shows=r"\S", chance=True)
def fuzz_schedule(context: TrialContext) -> None:
    """Random steps: load, reverse, force, replace; after one the kernel's state is wrong.

    Livepatches are loaded, disabled, reversed, forced and replaced, their target is loaded and
    unloaded, tasks sleep in patched functions, fork and exit.
    """
    take_steps(context, make_steps(context.chance))


def with_steps(race: Reproducer, steps: Sequence[Step]) -> Reproducer:
    """Return the fuzzer with these steps for every seed."""
    return dataclasses.replace(race, steps=functools.partial(take_steps, steps=tuple(steps)))


def is_fuzzer(race: Reproducer) -> bool:
    """Return whether a reproducer is the fuzzer."""
    return race.name == _NAME


def steps_of(seed: int) -> tuple[Step, ...]:
    """Return the steps that the fuzzer takes with that seed."""
    return make_steps(chance_of(seed))


def take_steps(context: TrialContext, steps: Sequence[Step]) -> None:
    """Take the steps in turn; raises RaceShown when the kernel's state is not the model's.

    A step without a meaning at its place is left out. At the end all sleepers leave.
    """
    fuzzer = _Fuzzer(context)
    done: list[str] = []
    for step in steps:
        if fuzzer.model.can(step):
            done.append(str(step))
            fuzzer.take(step, done)
    while fuzzer.model.sleepers:
        done.append(f"{_LEAVE} (at the end)")
        fuzzer.take(_LEAVE, done)


class _Fuzzer:
    def __init__(self, context: TrialContext) -> None:
        self.model = Model()
        self._context = context
        self._gates = context.gates
        self._guest = context.guest
        self._sleepers: dict[int, GateTask] = {}
        self._children: list[SpawnedProcess] = []
        self._gates.open()

    def take(self, step: Step, done: Sequence[str]) -> None:
        """Take a step and check the kernel's state; raises RaceShown."""
        try:
            self._try(step)
            self._check()
            self._guest.check_splats()
        except (KernelSplat, RaceShown, TransitionTimeout) as error:
            raise RaceShown(
                f"after {len(done)} steps, the last of them {done[-1]!r}: {error.message}",
                details=(f"steps: {'; '.join(done)}", *error.details),
                artefacts=error.artefacts,
            ) from error

    # -- steps

    def _try(self, step: Step) -> None:
        wanted = self.model.refusal(step)
        got = _errno_of(functools.partial(self._do, step))
        if got != wanted:
            found, expected = (errno_text(code) if code else "success" for code in (got, wanted))
            raise RaceShown(f"the kernel answered {found}, and {expected} is right")
        if got:
            return
        gone_before = set(self.model.stack)
        self.model.take(step)
        self._unload(gone_before - set(self.model.stack))

    def _do(self, step: Step) -> None:
        livepatch = self._context.livepatch
        actions: dict[Verb, Callable[[], object]] = {
            "load": lambda: livepatch.load(PATCHES[step.patch].module, replace=step.replace),
            "disable": lambda: self._patch(step.patch).disable(wait=False),
            "enable": lambda: self._patch(step.patch).enable(),
            "reverse": lambda: self._newest().reverse(),
            "force": lambda: self._newest().force(),
            "enter": self._enter,
            "leave": self._leave,
            "target": lambda: livepatch.load_target(TARGET),
            "untarget": lambda: livepatch.module(TARGET).unload(),
            "fork": self._fork,
            "exit": self._exit,
            "storm": lambda: start_storm(self._guest),
        }
        actions[step.verb]()

    def _enter(self) -> None:
        gate = self.model.free_gate()
        self._sleepers[gate] = self._gates.enter(gate)

    def _leave(self) -> None:
        gate = self.model.oldest_sleeper()
        body = self._sleepers.pop(gate).release().body
        wanted = Body.ORIGINAL if self.model.sleepers[gate] == ORIGINAL else Body.PATCHED
        if body is not wanted:
            raise RaceShown(f"the sleeper left the {body} body, and had entered the {wanted} one")

    def _exit(self) -> None:
        child = self._children.pop(0)
        child.signal(signal.SIGKILL)
        child.wait(scaled(self._guest, QUICK_S))

    def _fork(self) -> None:
        child = self._guest.spawn("sleep", "1000")
        self._children.append(child)
        state = self._context.tasks.get(child.pid).patch_state
        wanted = self._state()
        if state is not wanted:
            raise RaceShown(f"a new task has patch state {int(state)}, and {wanted:d} is right")

    def _unload(self, gone: set[str]) -> None:
        for name in gone:
            patch = self._patch(name)
            patch.wait_complete(scaled(self._guest, _SETTLE_S))
            patch.wait_gone(scaled(self._guest, _SETTLE_S))
            if name in self.model.stuck:
                continue
            got = _errno_of(functools.partial(patch.unload, scaled(self._guest, _SETTLE_S)))
            if got:
                raise RaceShown(f"{name} cannot be unloaded: {errno_text(got)}")

    # -- what is checked

    def _check(self) -> None:
        model = self.model
        if model.transition is None:
            for name in model.stack:
                self._patch(name).wait_complete(scaled(self._guest, _SETTLE_S))
            expect_settled(self._context.tasks)
        else:
            self._check_transition(self._patch(model.transition))
        patches = self._context.livepatch.patches()
        found = {patch.name: (patch.enabled, patch.in_transition) for patch in patches}
        wanted = {
            PATCHES[name].module: (model.enabled(name), name == model.transition)
            for name in model.stack
        }
        if found != wanted:
            raise RaceShown(
                f"sysfs has {_text(found)}, and {_text(wanted)} is right (enabled, transition)"
            )
        self._expect("the hooks of ftrace", self._hooked(), model.hooked())
        self._check_bodies()

    def _check_transition(self, patch: Patch) -> None:
        blockers = [self._sleepers[gate] for gate in sorted(self.model.blockers())]
        wanted = self._state()
        self._context.tasks.wait_all(wanted, but=blockers, deadline=scaled(self._guest, _SETTLE_S))
        for task in blockers:
            if task.patch_state is wanted:
                raise RaceShown(
                    f"task {task.tid} was switched while it slept in the body that is left",
                    details=task.stack(),
                )
        if not patch.in_transition:
            raise RaceShown(f"{patch.name} ended its transition, though a sleeper blocks it")

    def _check_bodies(self) -> None:
        model = self.model
        match = _PATCHED_CMDLINE.match(self._guest.read(_CMDLINE))
        shown = match[1] if match else ORIGINAL
        self._expect("cmdline_proc_show()", shown, _module(model.body_of("cmdline_proc_show")))
        if model.target:
            names = [_module(model.body_of(f"klp_target_{name}")) for name in "fg"]
            wanted = f"f {names[0]} g {names[1]}"
            self._expect("the target's functions", self._guest.read(_PAIR).strip(), wanted)
        body = self._gates.call(CALLED_GATE).body
        gate = model.body_of("klp_gate_wait_second")
        wanted_body = Body.ORIGINAL if gate == ORIGINAL else Body.PATCHED
        self._expect("klp_gate_wait_second()", body.value, wanted_body.value)

    def _expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise RaceShown(f"{what}: {_text(found)}, and {_text(wanted)} is right")

    # -- the guest's state

    def _state(self) -> PatchState:
        """Return the patch state of a task that has switched."""
        if self.model.transition is None:
            return PatchState.UNDEFINED
        return PatchState.PATCHED if self.model.patching else PatchState.UNPATCHED

    def _hooked(self) -> frozenset[str]:
        lines = self._guest.read(_HOOKS).splitlines()
        return frozenset(line.split()[0] for line in lines if line[:1].strip()) & _ALL_FUNCTIONS

    def _patch(self, name: str) -> Patch:
        return self._context.livepatch.patch(PATCHES[name].module)

    def _newest(self) -> Patch:
        """Return the patch in transition; without a transition, the one loaded last."""
        return self._patch(self.model.transition or self.model.stack[-1])


def _errno_of(action: Callable[[], None]) -> int:
    """Do something, and return the errno with which the kernel refused it; 0: it did not."""
    try:
        action()
    except ModuleRefused as error:
        return error.errno
    except TimeoutError:
        raise
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _module(patch: str) -> str:
    return PATCHES[patch].module if patch in PATCHES else patch


def _text(what: object) -> str:
    if isinstance(what, frozenset):
        return ", ".join(sorted(what)) or "none"
    if isinstance(what, dict):
        return ", ".join(f"{name} {value}" for name, value in sorted(what.items())) or "no patch"
    return str(what)
