# SPDX-License-Identifier: GPL-2.0-only
"""A scene: a fresh guest, and steps in it, each of which is a check.

A step that fails ends its scene, because what follows relies on it. The checks that were not
reached are reported as not run.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.deadline import Deadline
from harness.errors import (
    GuestPanic,
    HarnessError,
    KernelSplat,
    KernelVerdict,
    UsageError,
    errno_text,
    is_of_guest,
)
from harness.livepatch.modules import format_params
from harness.livepatch.patch import Livepatch
from harness.report.base import CheckOutcome
from harness.tools.verify.check_tests import check_in
from harness.tools.verify.executed import Executed
from harness.tools.verify.patience import Waited, Waits, advice_on_stacks
from harness.tools.verify.script import When
from harness.tools.verify.step import (
    ADVICE,
    Failed,
    NotOfPatch,
    SceneEnded,
    Step,
    code_of,
)
from harness.tools.verify.verdict import Check, failed, not_run, warned
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.livepatch.patch import Patch
    from harness.observe.load_plan import Plan, Target
    from harness.report.run_results import RunResult
    from harness.tools.verify.case import Case
    from harness.tools.verify.executed import Execution
    from harness.vm.guest.machine import Machine

_SLICE_S = 2.0
_TCG_SCALE = 2.0
_LOAD_S = 15.0
# The kernel's fake signal comes after 15 rounds of a second; a patch that needs it is slow.
_SLOW_S = 10.0
_MOST_LINES = 40


@dataclass(frozen=True, kw_only=True)
class SceneSpec:
    """What a scene does, and the checks that its steps are, in their order.

    ``first``: when it fails, scenes that have not ended are stopped. ``always``: it is not.
    """

    name: str
    run: Callable[[Scene], None]
    checks: tuple[str, ...]
    cpus: int | None = None
    first: bool = False
    always: bool = False


@dataclass(kw_only=True)
class SceneResult:
    """What a scene has found so far.

    ``runs`` are recorded timelines, ``splat`` is what the kernel printed of a bug. ``error`` is a
    failure of harness, host or usage. ``has_guest``: its guest was started. ``unread`` says why
    that guest's log was not read to its end. ``excused``: a splat there is not the patch's own.
    """

    spec: SceneSpec
    checks: list[Check] = field(default_factory=list)
    runs: list[RunResult] = field(default_factory=list)
    executed: list[Execution] = field(default_factory=list)
    splat: str | None = None
    has_guest: bool = False
    unread: str | None = "it was not looked at"
    excused: bool = False
    error: HarnessError | UsageError | None = None

    @property
    def failed(self) -> Check | None:
        """The check that failed."""
        return next((each for each in self.checks if each.outcome is CheckOutcome.FAILED), None)

    def not_reached(self) -> tuple[Check, ...]:
        """Return the checks that were not reached, with the reason."""
        if self.error is not None:
            why = f"the harness failed: {self.error.message}"
        elif self.failed is not None:
            why = f"{self.failed.id} failed"
        elif self.checks and self.checks[-1].outcome is CheckOutcome.NOT_RUN:
            why = self.checks[-1].detail
        else:
            why = "the idle scene failed"
        reached = {check.id for check in self.checks}
        return tuple(not_run(name, why) for name in self.spec.checks if name not in reached)


class Scene:
    """A guest with the patch's files, for the steps of one scene.

    ``stop`` is set when the result is not needed any more.
    """

    def __init__(
        self,
        machine: Machine,
        case: Case,
        result: SceneResult,
        *,
        stop: threading.Event,
        another_guest: Callable[[], AbstractContextManager[Machine]],
    ) -> None:
        self.machine = machine
        self.case = case
        self.result = result
        self.another_guest = another_guest
        self.livepatch = Livepatch(machine)
        self.executed = Executed(machine, case, result.spec.name)
        result.executed = self.executed.counts
        self._stop = stop
        self._left: tuple[str, ...] = ()
        patch = case.info.patch
        self.waits = Waits(
            machine,
            functions=len(patch.functions) if patch is not None else 0,
            check_stop=self._check_stop,
        )
        request = case.request
        self.script = (
            check_in(machine, request.check, timeout_s=request.check_timeout_s)
            if request.check is not None and not case.refused
            else None
        )

    # -- steps --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def step(self, name: str, *, soft: Code | None = None) -> Iterator[Step]:
        """Make a check of the body: it passes unless the body raises or says otherwise.

        With ``soft``, what the patch left behind is a warning of that code and no failure. Raises
        SceneEnded when the body failed; HarnessError passes through.
        """
        self._check_stop()
        step = Step(name)
        start_s = time.monotonic()
        try:
            yield step
        except NotOfPatch as found:
            step.skip(str(found))
            self._note(step.check, time.monotonic() - start_s)
            raise SceneEnded from None
        except Failed as found:
            step.check = failed(name, found.code, found.detail, found.advice, found.lines)
        except KernelVerdict as error:
            code = code_of(error)
            advice = error.hint or ADVICE.get(code)
            step.check = failed(name, code, error.message, advice, error.details)
            if isinstance(error, KernelSplat | GuestPanic):
                self.result.splat = self.result.splat or error.message
        except TimeoutError as error:
            stacks = self._stuck_stacks()
            step.check = failed(
                name,
                Code.STUCK,
                f"the guest still runs, and this did not end: {error}",
                advice_on_stacks(stacks),
                stacks,
            )
        except OSError as error:
            if not is_of_guest(error):
                raise HarnessError(f"the host failed during {name}: {error}") from error
            where = f" of {error.filename}" if error.filename else ""
            text = errno_text(error.errno or 0)
            detail = f"the kernel refused an access{where}: {text}"
            step.check = failed(name, Code.WRITE_REFUSED, detail)
        has_failed = step.check.outcome is CheckOutcome.FAILED
        if has_failed and soft is not None and step.check.code in _SOFT:
            step.warn(soft, step.check.detail, ADVICE[soft], step.check.lines)
            self.excuse_splat()
        self._note(step.check, time.monotonic() - start_s)
        if has_failed:
            raise SceneEnded

    def excuse_splat(self) -> None:
        """Leave what the kernel reported in this guest out: it is not the patch's."""
        self.result.splat = None
        self.result.excused = True

    def _note(self, check: Check, seconds: float) -> None:
        left, self._left = self._left, ()
        if left and (check.outcome is CheckOutcome.PASSED or check.code is Code.NOT_EXERCISED):
            check = warned(
                check.id,
                Code.CHECK_LEFT,
                f"the check left a process behind with its output open: {', '.join(left)}; it was "
                f"killed. {check.detail}",
                "wait for it, or end it, or give it another standard output and error",
            )
        is_wrong = check.outcome in (CheckOutcome.FAILED, CheckOutcome.WARNED)
        self.result.checks.append(
            replace(
                check,
                lines=check.lines[:_MOST_LINES],
                seconds=seconds,
                evidence=(self.machine.folder,) if is_wrong else (),
            )
        )

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise SceneEnded

    def _stuck_stacks(self) -> tuple[str, ...]:
        """Return the tasks that sleep uninterruptibly, with their stacks."""
        lines: list[str] = []
        with contextlib.suppress(KernelVerdict, OSError):
            for task in self.machine.tasks().tasks:
                if task.state == "D":
                    lines.append(f"task {task.tid} ({task.comm})")
                    with contextlib.suppress(OSError):
                        stack = self.machine.stack(task.tid).splitlines()
                        lines += [f"  {line}" for line in stack]
        return tuple(lines)

    # -- what steps do ------------------------------------------------------------------------

    def load_targets(self) -> None:
        """Load the modules that the patch patches; raises ModuleRefused."""
        for target in self.case.loadable:
            self.load_target(target)

    def load_target(self, target: Target) -> None:
        """Load one of them; raises ModuleRefused, and TimeoutError when it does not return."""
        self._insmod(target.name, target.path)

    def unload_target(self, target: Target) -> None:
        """Unload one of them; raises ModuleRefused, and TimeoutError when it does not return."""
        self.waits.go_on(
            self.livepatch.module(target.name).unload,
            self.waits.until_file(f"/sys/module/{target.name}", Op.ABSENT),
        )

    def load(self, plan: Plan | None = None) -> Patch:
        """Load the patch, or another; its transition has started when this returns."""
        plan = plan or self.case.plan
        # Not by Livepatch.load(): a parameter may have the name of one of its arguments.
        self._insmod(plan.name, plan.path, format_params(plan.params))
        patch = self.livepatch.patch(plan.name)
        if not patch.exists:
            raise Failed(
                Code.LOAD_REFUSED,
                f"{plan.name} was loaded and made no patch in /sys/kernel/livepatch",
                advice="call klp_enable_patch() in its init, and return what it returns",
            )
        return patch

    def load_over(self, name: str, path: Path, params: str) -> Patch:
        """Load another patch over this one, which it may replace at once."""
        self._insmod(name, path, params)
        return self.livepatch.patch(name)

    def _insmod(self, name: str, path: Path, params: str = "") -> None:
        """Load a module; as it may set and remove many hooks, it may take long."""
        file = self.machine.upload(path)
        self.waits.go_on(
            lambda: self.machine.insmod(file, params, deadline=self.waits.scaled(_LOAD_S)),
            self.waits.until_file(f"/sys/module/{name}/initstate", Op.EQUALS, "live"),
        )

    def enable(self, plan: Plan | None = None) -> Patch:
        """Load the patch, or another, and wait until its transition has ended."""
        patch = self.load(plan)
        self.wait_complete(patch)
        return patch

    @property
    def within_s(self) -> float:
        """How long a transition may take in this guest, in seconds."""
        # TCG alone is in the user's figure; guests that share the CPUs come on top.
        return self.case.request.within_s * max(1.0, self.machine.time_scale / _TCG_SCALE)

    def wait_complete(self, patch: Patch, within_s: float | None = None) -> Waited:
        """Wait until the patch is in no transition; return how long that took.

        Raises TransitionTimeout, and SceneEnded when the scene is stopped meanwhile.
        """
        return self.waits.complete(patch, within_s or self.within_s)

    def wait_gone(self, patch: Patch) -> None:
        """Wait until a patch has left sysfs; raises TransitionTimeout."""
        patch.wait_gone(Deadline.after(self.within_s))

    def start_disabling(self, patch: Patch) -> None:
        """Write 0 to ``enabled``; raises OSError, and TimeoutError when it does not return.

        When no task holds the transition, the write itself removes the hooks.
        """
        self.waits.go_on(
            lambda: patch.disable(wait=False, deadline=self.waits.scaled(_LOAD_S)), patch.completes
        )

    def disable(self, patch: Patch, within_s: float | None = None) -> Waited:
        """Disable the patch and wait; return how long that took."""
        start_s = time.monotonic()
        self.start_disabling(patch)
        written_s = time.monotonic() - start_s
        waited = self.wait_complete(patch, within_s)
        return Waited(seconds=written_s + waited.seconds, held_s=waited.held_s)

    def unload(self, patch: Patch) -> None:
        """Unload a disabled patch; raises ModuleRefused and TransitionTimeout."""
        patch.unload(self.machine.scaled(_LOAD_S))

    def remove(self, *patches: Patch) -> None:
        """Disable and unload patches, one after the other."""
        for patch in patches:
            self.disable(patch)
            self.unload(patch)

    def hold(self, seconds: float) -> None:
        """Wait for so long; raises how the guest ended when it does meanwhile."""
        deadline = Deadline.after(seconds)
        while not deadline.expired:
            self._check_stop()
            self.machine.wait(lambda: False, deadline.within(_SLICE_S))

    def expect_no_splat(self) -> None:
        """Raise KernelSplat when the kernel has reported a bug or a warning."""
        self.machine.check_splats()

    def check(self, when: When) -> None:
        """Run the user's check, when there is one; raises Failed.

        Raises UsageError for one that does not pass before the patch is loaded, as it then says
        nothing about the patch.
        """
        path = self.case.request.check
        if self.script is None or path is None:
            return
        with self.executed.during(f"check-{when}", when):
            run = self.script.run(when)
        self._left += run.left
        if run.ok:
            return
        ending = run.describe(self.case.request.check_timeout_s * self.machine.time_scale)
        if when is When.BEFORE:
            raise UsageError(
                f"the check {path.name} {'hangs' if run.code is None else 'fails'} before the "
                f"patch is loaded: {ending}",
                hint="called with the argument before, it has to end with 0 on the unpatched "
                "kernel; a test file has to pass there",
                details=run.lines,
            )
        raise Failed(
            Code.CHECK_HUNG if run.code is None else Code.CHECK_FAILED,
            f"{path.name} {when} {ending}",
            "the patch does not do what the script expects of it"
            if when is When.DURING
            else "the old behaviour is not back: look at what the callbacks leave behind",
            # The last one is in the sentence already.
            run.lines if len(run.lines) > 1 else (),
        )

    def note_duration(self, step: Step, waited: Waited, what: str) -> None:
        """Note how long a transition took; one that tasks held for long is a warning."""
        step.passed(f"{what} in {waited.seconds:.1f} s")
        if waited.held_s > _SLOW_S * max(1.0, self.machine.time_scale / _TCG_SCALE):
            step.warn(
                Code.SLOW_TRANSITION,
                f"{what} in {waited.seconds:.0f} s: for {waited.held_s:.0f} s tasks slept in "
                "patched functions",
                "expect that on busy machines; the kernel wakes such tasks after 15 s",
            )


# What a patch that is replaced may leave to the one that replaces it.
_SOFT = frozenset({Code.LEFT_BEHIND, Code.SPLAT, Code.PANIC, Code.CHECK_FAILED, Code.HANG})
