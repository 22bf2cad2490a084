# SPDX-License-Identifier: GPL-2.0-only
"""The schedule fuzzer: random steps in a guest, with a check of the kernel's state after each."""

from __future__ import annotations

import dataclasses
import errno
import functools
import re
import signal
from typing import TYPE_CHECKING, Any

from harness.errors import (
    HarnessError,
    KernelSplat,
    ModuleRefused,
    RaceShown,
    TransitionTimeout,
    errno_text,
)
from harness.livepatch.gates import Body
from harness.livepatch.program_output import wait_success
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.fuzz_model import (
    CALLED_GATE,
    COLD_OBJECT,
    ORIGINAL,
    PATCHES,
    SLEEPS,
    TARGETS,
    Model,
    Step,
)
from harness.tools.race.reproducers.fuzz_plan import make_steps
from harness.tools.race.reproducers.storm import expect_settled, start_storm
from harness.tools.race.trial_context import chance_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.livepatch.patch import Patch
    from harness.livepatch.tasks import TaskHandle
    from harness.tools.race.reproducer import Reproducer
    from harness.tools.race.reproducers.fuzz_model import Verb
    from harness.tools.race.trial_context import TrialContext
    from harness.vm.guest.spawned import SpawnedProcess

_CMDLINE = "/proc/cmdline"
_PATCHED_CMDLINE = re.compile(r"(\w+): this has been live patched")
_PAIR = "/sys/kernel/klp_target/pair"
_COLD_CALL = "/sys/kernel/klp_cold/call"
_HOOKS = "/sys/kernel/tracing/enabled_functions"
_ALL_FUNCTIONS = frozenset(name for patch in PATCHES.values() for name in patch.functions)
# A transition that nobody blocks ends with the kernel's next attempt, a second later.
_SETTLE_S = 12.0
_NAME = "fuzz-schedule"
_LEAVE = Step("leave")


@reproducer(_NAME, rule="TR-02", shows=r"\S", chance=True)
def fuzz_schedule(context: TrialContext) -> None:
    """Random steps: load, reverse, force, replace; after one the kernel's state is wrong.

    Livepatches are loaded, disabled, reversed, forced and replaced at any depth of the stack, their
    targets are loaded and unloaded, tasks sleep in patched functions, fork and exit.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asleep:
    """A task that sleeps in a patched function; ``leave`` lets it go, and returns whose body."""

    task: TaskHandle
    function: str
    leave: Callable[[], str]

    def __str__(self) -> str:
        return f"task {self.task.tid}, asleep in {self.function}()"


class _Fuzzer:
    def __init__(self, context: TrialContext) -> None:
        self.model = Model()
        self._context = context
        self._gates = context.gates
        self._guest = context.guest
        self._sleepers: dict[int, _Asleep] = {}
        self._children: list[SpawnedProcess] = []
        self._gates.open()
        context.livepatch.load_target(COLD_OBJECT)

    def take(self, step: Step, done: Sequence[str]) -> None:
        """Take a step and check the kernel's state; raises RaceShown."""
        try:
            self._try_and_check(step)
        except (KernelSplat, RaceShown, TransitionTimeout) as error:
            raise RaceShown(
                f"after {len(done)} steps, the last of them {done[-1]!r}: {error.message}",
                details=(f"steps: {'; '.join(done)}", *error.details),
                artefacts=error.artefacts,
            ) from error

    # -- steps

    def _try_and_check(self, step: Step) -> None:
        try:
            self._try(step)
            self._check()
        except (HarnessError, TimeoutError):
            # An oops kills the task that runs into it, and then nobody answers here.
            self._guest.check_splats()
            raise
        self._guest.check_splats()

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
            "load": lambda: self._load(step),
            "disable": lambda: self._patch(step.what).disable(wait=False),
            "enable": lambda: self._patch(step.what).enable(),
            "reverse": lambda: self._newest().reverse(),
            "force": lambda: self._newest().force(),
            "enter": lambda: self._enter(step.what),
            "leave": self._leave,
            "target": lambda: livepatch.load_target(TARGETS[step.what]),
            "untarget": lambda: livepatch.module(TARGETS[step.what]).unload(),
            "fork": self._fork,
            "exit": self._exit,
            "storm": lambda: start_storm(self._guest),
        }
        actions[step.verb]()

    def _load(self, step: Step) -> None:
        sample = PATCHES[step.what]
        parameters: dict[str, Any] = dict(sample.parameters)
        if not sample.is_alone:
            parameters["replace"] = step.replace
        self._context.livepatch.load(sample.module, **parameters)

    def _enter(self, where: str) -> None:
        function, _ = SLEEPS[where]
        gate = self.model.free_gate(where)
        assert gate is not None
        if where == "cold":
            self._sleepers[gate] = self._call_cold(gate, function)
            return
        task = self._gates.enter(gate)
        self._sleepers[gate] = _Asleep(
            task=task, function=function, leave=lambda: str(task.release().body)
        )

    def _call_cold(self, gate: int, function: str) -> _Asleep:
        """Start a call that sleeps in a branch which the compiler has moved away."""
        self._gates.close(gate)
        caller = self._guest.spawn("cat", _COLD_CALL)
        self._gates[gate].await_task(caller.pid)

        def leave() -> str:
            self._gates.open(gate)
            deadline = scaled(self._guest, QUICK_S)
            _, outer, *_ = caller.next_line(deadline).split()
            wait_success(caller, "cat", deadline)
            return outer

        return _Asleep(task=self._context.tasks.get(caller.pid), function=function, leave=leave)

    def _leave(self) -> None:
        gate = self.model.oldest_sleeper()
        sleeper = self._sleepers.pop(gate)
        body, wanted = sleeper.leave(), _shown(self.model.sleepers[gate].body)
        if body != wanted:
            raise RaceShown(f"{sleeper}, left the {body} body, and had entered the {wanted} one")

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
        deadline = scaled(self._guest, _SETTLE_S)
        tasks = [sleeper.task for sleeper in blockers]
        try:
            self._context.tasks.wait_all(wanted, but=tasks, deadline=deadline)
        except TransitionTimeout:
            self._expect_held(patch, blockers)
            raise
        for sleeper in blockers:
            if sleeper.task.patch_state is wanted:
                raise RaceShown(
                    f"{sleeper}, was switched in the body that is left",
                    details=sleeper.task.stack(),
                )
        self._expect_held(patch, blockers)

    def _expect_held(self, patch: Patch, blockers: Sequence[_Asleep]) -> None:
        if not patch.in_transition:
            raise RaceShown(
                f"{patch.name} ended its transition with {blockers[0]}, in the body that is left",
                details=blockers[0].task.stack(),
            )

    def _check_bodies(self) -> None:
        model = self.model
        match = _PATCHED_CMDLINE.match(self._guest.read(_CMDLINE))
        shown = match[1] if match else ORIGINAL
        self._expect("cmdline_proc_show()", shown, _module(model.body_of("cmdline_proc_show")))
        if "mod" in model.targets:
            names = [_module(model.body_of(f"klp_target_{name}")) for name in "fg"]
            wanted = f"f {names[0]} g {names[1]}"
            self._expect("the target's functions", self._guest.read(_PAIR).strip(), wanted)
        body = self._gates.call(CALLED_GATE).body
        second = "klp_gate_wait_second"
        self._expect(f"{second}()", str(body), _shown(model.body_of(second)))

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


def _shown(body: str) -> str:
    """Return what the sample modules say of a body: all patches of a function say the same."""
    return str(Body.ORIGINAL if body == ORIGINAL else Body.PATCHED)


def _module(patch: str) -> str:
    return PATCHES[patch].module if patch in PATCHES else patch


def _text(what: object) -> str:
    if isinstance(what, frozenset):
        return ", ".join(sorted(what)) or "none"
    if isinstance(what, dict):
        return ", ".join(f"{name} {value}" for name, value in sorted(what.items())) or "no patch"
    return str(what)
