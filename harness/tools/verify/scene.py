# SPDX-License-Identifier: GPL-2.0-only
"""One scene of the battery: a fresh guest, and steps of which each is a check.

A step that fails ends its scene, because nothing after it would mean what it should. What was not
reached is told as not run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.deadline import Deadline
from harness.errors import (
    GuestHang,
    GuestPanic,
    GuestReset,
    KernelSplat,
    KernelVerdict,
    ModuleRefused,
    TransitionTimeout,
    errno_text,
)
from harness.livepatch.modules import format_params
from harness.livepatch.patch import Livepatch
from harness.tools.verify.check_tests import SUFFIX, CheckTests
from harness.tools.verify.script import CheckScript, When
from harness.tools.verify.verdict import Check, CheckResult, Code

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.livepatch.patch import Patch
    from harness.observe.load_plan import Plan, Target
    from harness.report.run_results import RunResult
    from harness.tools.verify.case import Case
    from harness.vm.guest.machine import Machine

_SLICE_S = 2.0
_TCG_SCALE = 2.0
_LOAD_S = 30.0
# The kernel's fake signal comes after 15 rounds of a second; a patch that needs it is slow.
_SLOW_S = 10.0
_DETAIL_LINES = 40


class SceneEnded(Exception):
    """A step has failed and is noted; what follows in the scene makes no sense."""


class Failed(Exception):
    """A step found what is wrong by itself; ``lines`` are worth reading in full."""

    def __init__(
        self, code: Code, detail: str, *, advice: str | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.advice = advice
        self.lines = lines


@dataclass
class Step:
    """A check while it runs; its body may say more than that it passed."""

    id: str
    detail: str = ""
    outcome: CheckResult = CheckResult.PASSED
    code: Code = Code.OK
    advice: str | None = None
    lines: tuple[str, ...] = ()

    def warn(
        self, code: Code, detail: str, advice: str | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        """Make it a warning."""
        self.outcome, self.code, self.detail = CheckResult.WARNED, code, detail
        self.advice, self.lines = advice, lines

    def skip(self, why: str) -> None:
        """Say that it could not be run, and why."""
        self.outcome, self.code, self.detail = CheckResult.NOT_RUN, Code.NOT_RUN, why


@dataclass
class Notes:
    """What a scene leaves behind: its checks in order, splats, and recorded runs."""

    checks: list[Check] = field(default_factory=list)
    runs: list[RunResult] = field(default_factory=list)
    splat: str | None = None


class Scene:
    """A guest of its own with the case in it. ``stop`` is set when the rest of the battery ends."""

    def __init__(
        self,
        name: str,
        machine: Machine,
        case: Case,
        notes: Notes,
        *,
        stop: threading.Event,
        another_guest: Callable[[], AbstractContextManager[Machine]],
    ) -> None:
        self.name = name
        self.another_guest = another_guest
        self.machine = machine
        self.case = case
        self.notes = notes
        self.livepatch = Livepatch(machine)
        self._stop = stop
        request = case.request
        self.script = (
            check_in(machine, request.check, timeout_s=request.check_timeout_s)
            if request.check is not None
            else None
        )

    # -- steps --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def step(self, name: str, *, soft: Code | None = None) -> Iterator[Step]:
        """Make a check of the body: it passes unless the body raises or says otherwise.

        With ``soft``, what comes after the patch was loaded is a warning of that code, and counts
        for nothing else. Raises SceneEnded when it failed, and HarnessError as it is.
        """
        self.check_stop()
        step = Step(id=name)
        start_s = time.monotonic()
        try:
            yield step
        except Failed as found:
            step.outcome, step.code, step.detail = CheckResult.FAILED, found.code, found.detail
            step.advice, step.lines = found.advice, found.lines
        except KernelVerdict as error:
            self._take(step, error)
        except TimeoutError as error:
            step.outcome, step.code = CheckResult.FAILED, Code.STUCK
            step.detail = f"the guest lives, and this did not end: {error}"
            step.advice = "the stacks tell where it waits: look for a lock that is taken twice"
            step.lines = self._stuck_stacks()
        except OSError as error:
            step.outcome, step.code = CheckResult.FAILED, Code.WRITE_REFUSED
            where = f" of {error.filename}" if error.filename else ""
            step.detail = f"the kernel refused an access{where}: {errno_text(error.errno or 0)}"
        ended = step.outcome is CheckResult.FAILED
        if ended and soft is not None and step.code in _SOFT:
            step.warn(soft, step.detail, _ADVICE[soft], step.lines)
            self.notes.splat = None
        self._note(step, time.monotonic() - start_s)
        if ended:
            raise SceneEnded

    def check_stop(self) -> None:
        """End the scene when the battery has no use for it any more."""
        if self._stop.is_set():
            raise SceneEnded

    def _note(self, step: Step, seconds: float) -> None:
        self.notes.checks.append(
            Check(
                id=step.id,
                outcome=step.outcome,
                code=step.code,
                detail=step.detail,
                advice=step.advice,
                lines=step.lines[:_DETAIL_LINES],
                seconds=seconds,
                evidence=(self.machine.folder,)
                if step.outcome in (CheckResult.FAILED, CheckResult.WARNED)
                else (),
            )
        )

    def _take(self, step: Step, error: KernelVerdict) -> None:
        step.outcome, step.code = CheckResult.FAILED, code_of(error)
        step.detail, step.lines = error.message, error.details
        step.advice = error.hint or _ADVICE.get(step.code)
        if isinstance(error, KernelSplat | GuestPanic):
            self.notes.splat = self.notes.splat or error.message

    def _stuck_stacks(self) -> tuple[str, ...]:
        """Return who sleeps in the kernel without being killable, with their stacks."""
        lines: list[str] = []
        with contextlib.suppress(KernelVerdict, OSError):
            for task in self.machine.tasks().tasks:
                if task.state == "D":
                    lines.append(f"task {task.tid} ({task.comm})")
                    with contextlib.suppress(OSError):
                        stack = self.machine.stack(task.tid).splitlines()
                        lines += [f"  {line}" for line in stack]
        return tuple(lines)

    # -- what scenes do -----------------------------------------------------------------------

    @property
    def patch(self) -> Patch:
        """The patch under test, loaded or not."""
        return self.livepatch.patch(self.case.name)

    def load_targets(self) -> None:
        """Load what is patched; raises ModuleRefused."""
        for target in self.case.plan.targets:
            self.insmod(target)

    def insmod(self, module: Target | Plan) -> None:
        """Load a module's file; raises ModuleRefused, and TimeoutError when it does not return."""
        params = getattr(module, "params", None) or {}
        self.machine.insmod(
            self.machine.upload(module.path),
            format_params(params),
            deadline=self.machine.scaled(_LOAD_S / 2),
        )

    def load(self, plan: Plan | None = None) -> Patch:
        """Load the patch, or another; its transition has started when this returns."""
        plan = plan or self.case.plan
        self.insmod(plan)
        patch = self.livepatch.patch(plan.name)
        if not patch.exists:
            raise Failed(
                Code.LOAD_REFUSED,
                f"{plan.name} was loaded and made no patch in /sys/kernel/livepatch",
                advice="call klp_enable_patch() in its init, and return what it returns",
            )
        return patch

    @property
    def within_s(self) -> float:
        """How long a transition may take here, in seconds of the guest's clock."""
        # TCG alone is in the user's figure; guests that share the CPUs come on top.
        return self.case.request.within_s * max(1.0, self.machine.time_scale / _TCG_SCALE)

    def wait_complete(self, patch: Patch, within_s: float | None = None) -> float:
        """Wait until the patch is in no transition; return how long that took, in seconds.

        Raises TransitionTimeout, and SceneEnded when the battery ends meanwhile.
        """
        limit_s = within_s or self.within_s
        start_s = time.monotonic()
        deadline = Deadline.after(limit_s)
        while True:
            self.check_stop()
            piece = deadline.within(_SLICE_S)
            outcome = self.machine.poll_file(
                f"{patch.path}/transition", Op.DIFFERS, "1", deadline=piece
            )
            if not outcome.errno:
                return time.monotonic() - start_s
            if outcome.errno != errno.ETIMEDOUT:
                raise OSError(outcome.errno, os.strerror(outcome.errno), patch.path)
            if deadline.expired:
                raise patch.overdue(limit_s)

    def disable(self, patch: Patch) -> float:
        """Disable the patch and wait; return how long that took, in seconds."""
        patch.disable(wait=False)
        return self.wait_complete(patch)

    def unload(self, patch: Patch) -> None:
        """Unload a disabled patch; raises ModuleRefused and TransitionTimeout."""
        patch.unload(self.machine.scaled(_LOAD_S / 2))

    def hold(self, seconds: float) -> None:
        """Let time pass; raises the guest's fate when it dies meanwhile."""
        deadline = Deadline.after(seconds)
        while not deadline.expired:
            self.check_stop()
            self.machine.wait(lambda: False, deadline.within(_SLICE_S))

    def settle(self) -> None:
        """Raise KernelSplat when the kernel has complained of anything."""
        self.machine.check_splats()

    def check(self, when: When) -> None:
        """Run the user's script, when there is one; raises Failed."""
        if self.script is None:
            return
        said = self.script.run(when)
        if said.ok:
            return
        timeout_s = self.case.request.check_timeout_s * self.machine.time_scale
        assert self.case.request.check is not None
        raise Failed(
            Code.CHECK_HUNG if said.code is None else Code.CHECK_FAILED,
            f"{self.case.request.check.name} {when} {said.describe(timeout_s)}",
            advice="the patch does not do what the script says that it should"
            if when is When.DURING
            else "the old behaviour is not back: look at what the callbacks leave behind",
            # The last one is in the sentence already.
            lines=said.lines if len(said.lines) > 1 else (),
        )

    def print_slow(self, step: Step, seconds: float, what: str) -> None:
        """Note how long a transition took; a slow one is a warning."""
        step.detail = f"{what} in {seconds:.1f} s"
        if seconds > _SLOW_S * max(1.0, self.machine.time_scale / _TCG_SCALE):
            step.warn(
                Code.SLOW_TRANSITION,
                f"{what} took {seconds:.0f} s: tasks slept in patched functions",
                "expect that on busy machines; the kernel wakes them after 15 s",
            )


_ADVICE = {
    Code.TRANSITION_TIMEOUT: "a task stays in a patched function: patch one further out, or see "
    "that it wakes up",
    Code.SPLAT: "the trace names the function; console.log has all of it",
    Code.PANIC: "console.log has what came before",
    Code.LOAD_REFUSED: "the kernel log says why",
    Code.UNLOAD_REFUSED: "something still uses the module",
    Code.REPLACED_LEAVES: "callbacks of a patch that is replaced are not called: whoever replaces "
    "it has to undo what it did, or it has to undo that in its exit function",
}
# What a patch that is replaced may leave to the one that replaces it.
_SOFT = frozenset({Code.LEFT_BEHIND, Code.SPLAT, Code.PANIC, Code.CHECK_FAILED, Code.HANG})


def check_in(machine: Machine, path: Path, *, timeout_s: float) -> CheckScript | CheckTests:
    """Return the user's check for a guest: a script that runs there, or a test file."""
    kind = CheckTests if path.suffix == SUFFIX else CheckScript
    return kind(machine, path, timeout_s=timeout_s)


def code_of(error: KernelVerdict) -> Code:
    """Return the code of a failure of the kernel."""
    if isinstance(error, ModuleRefused):
        return Code.LOAD_REFUSED if error.action == "load" else Code.UNLOAD_REFUSED
    for kind, code in (
        (TransitionTimeout, Code.TRANSITION_TIMEOUT),
        (KernelSplat, Code.SPLAT),
        (GuestPanic, Code.PANIC),
        (GuestReset, Code.PANIC),
        (GuestHang, Code.HANG),
    ):
        if isinstance(error, kind):
            return code
    return Code.HANG
