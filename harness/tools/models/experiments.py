# SPDX-License-Identifier: GPL-2.0-only
"""The experiments, each on a fresh guest. They look at bodies that run, never at patch states.

So a kernel without patch states, or one that ignores them, is judged as well: the end of a
transition only means that there is nothing more to wait for. When a transition does not end within
some of the kernel's attempts, of which it makes one each second, the observations at that time
count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import HarnessError, KernelVerdict
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import QUICK_S, TRANSITION_S, poll, scaled
from harness.tools.models.cells import Body, Calls
from harness.tools.models.holders import who_holds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.livepatch.guest import Guest, GuestProcess
    from harness.livepatch.patch import Patch

PATCH = "klp_test_model"
TARGETS = ("klp_target_gate", "klp_target_model")
_FOLDER = "/sys/kernel/klp_model"
_CMDLINE = "/proc/cmdline"
_WAITING = "/proc/klp_gate_waiting"
_INSIDE_GATE, _BESIDE_GATE, _BETWEEN_GATE = 0, 5, 6
# Four attempts in which the kernel could have switched a task inside a patched function. If it does
# so in none, it waits for that task.
_ATTEMPTS_S = 4.0
# After 15 attempts the kernel wakes whoever can be woken (SIGNALS_TIMEOUT, transition.c).
_WOKEN_S = 20.0
# kernel/livepatch/core.c, klp_enable_patch(), without reliable stack traces.
_MAY_NEVER_END = "livepatch transition may never complete"


@dataclass(frozen=True, kw_only=True)
class Inside:
    """The bodies that a task inside an old function ran, and another that came from user mode.

    ``forced``: the transition was still open and was forced to its end before both.
    """

    inside: Calls
    free: Calls
    forced: bool = False


class Laboratory:
    """The target and the patch in one fresh guest, for one experiment.

    ``never_ended`` says which tasks would have held the transition for ever, so that it was forced
    after the observations: None when it ended by itself.
    """

    def __init__(self, guest: Guest, modules: Mapping[str, Path]) -> None:
        self._guest = guest
        self._modules = modules
        self._livepatch = Livepatch(guest, modules=modules)
        for target in TARGETS:
            self._livepatch.load_target(target)
        self._gates = Gates(guest)
        self._log = KernelLog(guest)
        self.never_ended: str | None = None
        before = self._calls()
        if not before.all(Body.OLD):
            raise HarnessError(f"before any patch the calls met {before}")

    def inside(self, *, force: bool = False) -> Inside:
        """Load the patch with a task asleep inside the outer function, which then goes on.

        With ``force`` the transition is forced to its end first. Raises KernelVerdict.
        """
        sleeper = self._hold("inside", _INSIDE_GATE)
        patch = self._livepatch.load(PATCH)
        self._give_time(patch, _ATTEMPTS_S)
        forced = force and patch.in_transition
        if forced:
            patch.force()
            patch.wait_complete()
        free = self._calls()
        inside = self._release(sleeper, _INSIDE_GATE)
        if inside.bodies[0] is not Body.OLD:
            raise HarnessError("the task did not sleep in the old body of the outer function")
        self._settle(patch)
        return Inside(inside=inside, free=free, forced=forced)

    def beside(self) -> Calls:
        """Load the patch with a task in a system call that calls the functions afterwards."""
        sleeper = self._hold("beside", _BESIDE_GATE)
        patch = self._livepatch.load(PATCH)
        # Others may have to be woken first, where all wait for each of them.
        self._give_time(patch, _WOKEN_S)
        calls = self._release(sleeper, _BESIDE_GATE)
        self._settle(patch)
        return calls

    def between(self) -> Calls:
        """Call while the patch's first object is with ftrace, and its second is not."""
        deadline = scaled(self._guest, TRANSITION_S)
        self._gates.close(_BETWEEN_GATE)
        # The callback sleeps in the task that loads the patch.
        loading = self._guest.spawn("/sbin/insmod", self._guest.upload(self._modules[PATCH]))
        if not poll(self._guest, _WAITING, Op.CONTAINS, f"{_BETWEEN_GATE} ", deadline=deadline):
            raise KernelVerdict(f"{PATCH} was not held before its second object: no callback ran")
        calls = self._calls(_CMDLINE)
        self._gates.open(_BETWEEN_GATE)
        code = loading.wait(deadline)
        if code:
            raise KernelVerdict(f"{PATCH} could not be loaded: insmod ended with {code}")
        self._settle(self._livepatch.patch(PATCH))
        return calls

    def _hold(self, name: str, gate: int) -> GuestProcess:
        self._gates.close(gate)
        # Not cat: it splices, and a signal while it does makes it call again.
        process = self._guest.spawn("/bin/head", "-n", "1", f"{_FOLDER}/{name}")
        self._gates[gate].await_task(process.pid)
        return process

    def _release(self, process: GuestProcess, gate: int) -> Calls:
        self._gates.open(gate)
        return _calls(process.lines(scaled(self._guest, QUICK_S)))

    def _calls(self, *more: str) -> Calls:
        """Let a new task call both functions; it comes from user mode."""
        process = self._guest.spawn("/bin/cat", f"{_FOLDER}/calls", *more)
        return _calls(process.lines(scaled(self._guest, QUICK_S)))

    def _give_time(self, patch: Patch, seconds: float) -> None:
        """Wait for the kernel to switch tasks: until the transition is over, or for that long."""
        path = f"{patch.path}/transition"
        poll(self._guest, path, Op.DIFFERS, "1", deadline=scaled(self._guest, seconds))

    def _settle(self, patch: Patch) -> None:
        """Check that every call runs new bodies, as no task is held; raises KernelVerdict."""
        if self._log.matching(_MAY_NEVER_END):
            self._give_time(patch, _WOKEN_S)
            if patch.in_transition:
                who = who_holds(self._livepatch, patch)
                self.never_ended = (
                    f"its transition had not ended {_WOKEN_S:.0f} s after the last task left a "
                    f"patched function, and was forced; {who}"
                )
                patch.force()
        patch.wait_complete()
        after = self._calls(_CMDLINE)
        if not after.all(Body.NEW):
            raise KernelVerdict(f"the transition is over, and the calls met {after}")


def _calls(lines: Iterable[str]) -> Calls:
    """Return the calls in a task's output; any other line is the unpatched command line."""
    words = []
    for line in lines:
        first = line.split()[:1]
        ours = first in (["old"], ["new"])
        words.append(line if ours else Body.OLD)
    try:
        return Calls.parse(" ".join(words))
    except ValueError as error:
        raise HarnessError(f"the target printed {' '.join(words)!r}") from error
