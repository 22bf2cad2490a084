# SPDX-License-Identifier: GPL-2.0-only
"""Loads one livepatch in a guest, records every task meanwhile, and makes a result of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import HarnessError, KernelVerdict, KlpError, UsageError
from harness.livepatch.callbacks import read_callbacks
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.modules import format_params
from harness.livepatch.patch import Livepatch
from harness.livepatch.recorder import Recorder
from harness.log import LOGGER
from harness.observe.history import callbacks, phases, seconds, task_histories, transition_marks
from harness.report.results import CheckOutcome, ErrorFacts, Mark, RunResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.guest.machine import Machine
    from harness.livepatch.patch import Patch
    from harness.livepatch.timeline import Timeline
    from harness.observe.plan import Plan
    from harness.wire import KlogRecord

_INTERVAL_MS = 10
# What the harness itself writes to the kernel log, to find its place again.
_OWN = "klp-harness: "


def watch_plan(machine: Machine, plan: Plan, *, hold_s: float) -> RunResult:
    """Load what the plan says, wait, disable, wait, unload; return what happened.

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
        self._recorder: Recorder | None = None
        self._log: KernelLog | None = None
        self._marks: list[tuple[int, str]] = []
        self._start_s = time.monotonic()

    def begin(self) -> None:
        """Load the targets and start recording; raises ModuleRefused for a target."""
        for target in self._plan.targets:
            self._livepatch.load_target(target.path)
        self._log = KernelLog(self._machine)
        self._recorder = Recorder(self._machine, interval_ms=_INTERVAL_MS)

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
        """Let time pass; raises the guest's fate when it dies meanwhile."""
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
        """Return the result of a livepatch that the kernel did not take well."""
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
        timeline = self._timeline()
        records = self._records()
        result = RunResult(
            id=self._plan.name,
            outcome=outcome,
            seconds=elapsed_s,
            module=str(self._plan.path),
            targets=tuple(target.name for target in self._plan.targets),
            absent=self._plan.absent,
            functions=self._plan.functions,
            log=tuple(_log_line(record) for record in records if not record.text.startswith(_OWN)),
            error=error,
        )
        if timeline is None:
            return result
        name = self._plan.name
        own = tuple(Mark(at_s=seconds(t_us, timeline), what=what) for t_us, what in self._marks)
        marks = (*transition_marks(timeline, name), *own)
        return result.model_copy(
            update={
                "phases": phases(timeline, name),
                "marks": tuple(sorted(marks, key=lambda mark: mark.at_s)),
                "tasks": task_histories(timeline),
                "callbacks": callbacks(read_callbacks(records), timeline),
            }
        )

    def _timeline(self) -> Timeline | None:
        """Return what was recorded; of a guest that died, what had come until then."""
        if self._recorder is None:
            return None
        try:
            return self._recorder.stop()
        except (KlpError, OSError):
            LOGGER.debug("the recording of %s broke off", self._plan.name)
        try:
            return self._recorder.salvage()
        except HarnessError:
            return None

    def _records(self) -> Sequence[KlogRecord]:
        """Return the kernel's messages; a dead guest has none to give, its console log has."""
        if self._log is None:
            return ()
        try:
            return self._log.since_mark()
        except (KlpError, OSError):
            return ()


def _log_line(record: KlogRecord) -> str:
    return f"[{record.us / 1e6:12.6f}] {record.text}"
