# SPDX-License-Identifier: GPL-2.0-only
"""The timeline of a scene, as a result that reports can draw."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.observe.observation import Observation
from harness.report.base import CheckOutcome
from harness.report.run_results import RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.tools.verify.scene import Scene


@contextlib.contextmanager
def recorded(scene: Scene) -> Iterator[Callable[[str], None]]:
    """Record the scene's patch while the body runs; the body may mark moments.

    The recording is kept also when a step in the body ends the scene.
    """
    name = scene.result.spec.name
    observation = Observation(scene.machine, name)
    moments: list[tuple[int, str]] = []

    def mark(what: str) -> None:
        moments.append((scene.machine.tasks().monotonic_us, what))

    try:
        yield mark
    finally:
        plan = scene.case.plan
        run = RunResult(
            id=f"{scene.case.name}/{name}",
            outcome=CheckOutcome.FAILED if scene.result.failed else CheckOutcome.PASSED,
            seconds=0.0,
            module=str(plan.path),
            targets=tuple(target.name for target in plan.targets),
            absent=plan.absent,
            functions=plan.functions,
        )
        fields = observation.result_fields(patch=scene.case.name, marks=moments)
        scene.result.runs.append(run.model_copy(update=fields))
