# SPDX-License-Identifier: GPL-2.0-only
"""Loads one livepatch in a guest, records every task meanwhile, and makes a result of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import KernelVerdict, UsageError
from harness.livepatch.modules import format_params
from harness.livepatch.patch import Livepatch
from harness.observe.observation import Observation
from harness.report.base import CheckOutcome, ErrorFacts
from harness.report.run_results import RunResult

if TYPE_CHECKING:
    from harness.livepatch.patch import Patch
    from harness.observe.load_plan import Plan
    from harness.vm.guest.machine import Machine


def watch_plan(machine: Machine, plan: Plan, *, hold_s: float) -> RunResult:
    """Load the modules of a plan, wait, disable, wait, unload; return the result.

    The kernel's refusal, a splat, a panic or a transition without end are the result's error, with
    all that was recorded before. Raises HarnessError and UsageError.
    """
    watch = Watch(machine, plan)
    try:
        watch.begin()
        if plan.info is not None and not plan.info.is_livepatch:
            watch.load_plain()
            return watch.finish(CheckOutcome.WARNED)
        watch.load().wait_complete()
        watch.hold(hold_s)
        watch.disable()
        watch.unload()
        return watch.finish()
    except KernelVerdict as error:
        return watch.fail(error)


class Watch:
    """One livepatch under observation in a guest of its own, which is thrown away afterwards."""

    def __init__(self, machine: Machine, plan: Plan) -> None:
        self._machine = machine
        self._plan = plan
        self._livepatch = Livepatch(machine)
        self._observation: Observation | None = None
        self._marks: list[tuple[int, str]] = []
        self._start_s = time.monotonic()

    def begin(self) -> None:
        """Load the targets and start recording; raises ModuleRefused for a target."""
        for target in self._plan.targets:
            self._livepatch.load_target(target.path)
        self._observation = Observation(self._machine, self._plan.name)

    @property
    def patch(self) -> Patch:
        """The livepatch, loaded or not."""
        return self._livepatch.patch(self._plan.name)

    def mark(self, what: str) -> None:
        """Mark this moment on the time axis."""
        self._marks.append((self._machine.tasks().monotonic_us, what))

    def load(self) -> Patch:
        """Load the livepatch; its transition has started when this returns.

        Raises ModuleRefused, and UsageError for a module that made no patch of its name.
        """
        self._insmod()
        if not self.patch.exists:
            raise UsageError(f"{self._plan.name} was loaded, but it is no livepatch")
        return self.patch

    def load_plain(self) -> None:
        """Load and unload a module that is no livepatch: no transition is to be seen."""
        self._insmod()
        self._machine.rmmod(self._plan.name)

    def hold(self, duration_s: float) -> None:
        """Wait for so long; raises KernelVerdict when the guest dies meanwhile."""
        self._machine.wait(lambda: False, Deadline.after(duration_s))

    def disable(self) -> None:
        """Disable the patch and wait until all tasks are back; raises TransitionTimeout."""
        self.patch.disable()

    def unload(self) -> None:
        """Unload the patch's module; raises ModuleRefused."""
        self.patch.unload()

    def finish(self, outcome: CheckOutcome = CheckOutcome.PASSED) -> RunResult:
        """Stop recording and return the result; raises KernelSplat when the kernel complained."""
        self._machine.check_splats()
        return self._result(outcome)

    def fail(self, error: KernelVerdict) -> RunResult:
        """Return the result of a livepatch with which the kernel failed."""
        facts = ErrorFacts(
            kind=type(error).__name__,
            fault="kernel",
            message=error.message,
            hint=error.hint,
            details=error.details,
            logs=str(error.artefacts or self._machine.folder),
        )
        return self._result(CheckOutcome.FAILED, facts)

    def _insmod(self) -> None:
        path = self._machine.upload(self._plan.path)
        self._machine.insmod(path, format_params(self._plan.params))

    def _result(self, outcome: CheckOutcome, error: ErrorFacts | None = None) -> RunResult:
        elapsed_s = time.monotonic() - self._start_s
        result = RunResult(
            id=self._plan.name,
            outcome=outcome,
            seconds=elapsed_s,
            module=str(self._plan.path),
            targets=tuple(target.name for target in self._plan.targets),
            absent=self._plan.absent,
            functions=self._plan.functions,
            error=error,
        )
        if self._observation is None:
            return result
        seen = self._observation.result_fields(patch=self._plan.name, marks=self._marks)
        return result.model_copy(update=seen)
