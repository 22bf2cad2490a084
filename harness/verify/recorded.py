# SPDX-License-Identifier: GPL-2.0-only
"""The timeline of what a scene does, as a result that reports can draw."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KlpError
from harness.livepatch.callbacks import read_callbacks
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.recorder import Recorder
from harness.log import LOGGER
from harness.observe.history import callbacks, phases, seconds, task_histories, transition_marks
from harness.report.results import CheckOutcome, Mark, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.verify.scene import Scene

_INTERVAL_MS = 20


@contextlib.contextmanager
def recorded(scene: Scene) -> Iterator[Callable[[str], None]]:
    """Record the scene's patch while the body runs; the body may mark moments.

    What was recorded is noted also when a step in the body ends the scene.
    """
    log = KernelLog(scene.machine)
    recorder = Recorder(scene.machine, interval_ms=_INTERVAL_MS)
    moments: list[tuple[int, str]] = []

    def mark(what: str) -> None:
        moments.append((scene.machine.tasks().monotonic_us, what))

    try:
        yield mark
    finally:
        _note(scene, recorder, log, moments)


def _note(scene: Scene, recorder: Recorder, log: KernelLog, moments: list[tuple[int, str]]) -> None:
    name = scene.case.name
    try:
        timeline = recorder.stop()
    except (KlpError, OSError):
        try:
            timeline = recorder.salvage()
        except HarnessError:
            LOGGER.debug("nothing was recorded of %s", scene.name)
            return
    try:
        records = log.since_mark()
    except (KlpError, OSError):
        records = []
    marks = [Mark(at_s=seconds(t_us, timeline), what=what) for t_us, what in moments]
    marks += transition_marks(timeline, name)
    scene.notes.runs.append(
        RunResult(
            id=f"{name}/{scene.name}",
            outcome=CheckOutcome.PASSED,
            seconds=seconds(timeline.end_us, timeline),
            module=str(scene.case.plan.path),
            targets=tuple(target.name for target in scene.case.plan.targets),
            absent=scene.case.plan.absent,
            functions=scene.case.plan.functions,
            phases=phases(timeline, name),
            marks=tuple(sorted(marks, key=lambda each: each.at_s)),
            tasks=task_histories(timeline),
            callbacks=callbacks(read_callbacks(records), timeline),
        )
    )
