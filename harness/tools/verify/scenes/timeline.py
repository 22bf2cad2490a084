# SPDX-License-Identifier: GPL-2.0-only
"""The timeline of what a scene does, as a result that reports can draw."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.observe.observation import Observation
from harness.report.base import CheckOutcome
from harness.report.run_results import RunResult
from harness.tools.verify.verdict import CheckResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.tools.verify.scene import Scene


@contextlib.contextmanager
def recorded(scene: Scene) -> Iterator[Callable[[str], None]]:
    """Record the scene's patch while the body runs; the body may mark moments.

    What was recorded is noted also when a step in the body ends the scene.
    """
    observation = Observation(scene.machine, scene.name)
    moments: list[tuple[int, str]] = []

    def mark(what: str) -> None:
        moments.append((scene.machine.tasks().monotonic_us, what))

    try:
        yield mark
    finally:
        failed = any(check.outcome is CheckResult.FAILED for check in scene.notes.checks)
        plan = scene.case.plan
        run = RunResult(
            id=f"{scene.case.name}/{scene.name}",
            outcome=CheckOutcome.FAILED if failed else CheckOutcome.PASSED,
            seconds=0.0,
            module=str(plan.path),
            targets=tuple(target.name for target in plan.targets),
            absent=plan.absent,
            functions=plan.functions,
        )
        story = observation.result_fields(patch=scene.case.name, marks=moments)
        scene.notes.runs.append(run.model_copy(update=story))
