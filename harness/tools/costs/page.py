# SPDX-License-Identifier: GPL-2.0-only
"""``costs`` as one HTML page with plots that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observer.cost_results import CostKind
from harness.report.html import render
from harness.tools.costs import charts
from harness.tools.costs.figures import CALLS, TASK_LOCK
from harness.tools.costs.points import SWITCH, TRY
from harness.tools.costs.terminal import (
    HEADINGS,
    instructions,
    row_of,
    table_rows,
    transitions_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.observer.cost_results import CostResult

    _Value = Callable[[CostResult], float]

_ATTEMPT = (
    "What klp_try_complete_transition() executes, by the number of functions of the livepatch: for "
    "each task, each frame of its stack is compared with each function. The list of tasks is "
    "locked for reading all that time."
)
_LONGEST = (
    "The longest time that one task, and its runqueue, are locked: interrupts are off meanwhile."
)
_FUNCTIONS = "All that a transition executes, with no task asleep beside the guest's own."
_DIRECTIONS = (CostKind.PATCHING, CostKind.UNPATCHING)


def costs_page(
    kernels: Sequence[str],
    results: Sequence[CostResult],
    facts: Mapping[str, str],
    *,
    partial: bool = False,
) -> str:
    """Return the page: bars of calls, curves by tasks and by functions, and all tables."""
    found = {(each.figure, each.kernel): each for each in results}
    rows = {
        what: {kernel: found[name, kernel].value for kernel in kernels if (name, kernel) in found}
        for name, what in CALLS.items()
    }
    transitions = {
        (kernel, kind): transitions_of(kernel, kind, found)
        for kernel in kernels
        for kind in _DIRECTIONS
    }
    sections = (
        (
            "An attempt to switch all tasks",
            _ATTEMPT,
            charts.panels(
                {kernel: _by_tasks(transitions[kernel, CostKind.PATCHING]) for kernel in kernels},
                across="tasks",
            ),
        ),
        (
            "The longest lock of a task",
            _LONGEST,
            charts.panels(
                {
                    kind.value: {
                        kernel: _by_functions(transitions[kernel, kind], _longest)
                        for kernel in kernels
                    }
                    for kind in _DIRECTIONS
                },
                across="functions",
            ),
        ),
        (
            "Patching and unpatching by the number of functions",
            _FUNCTIONS,
            charts.panels(
                {
                    kind.value: {
                        kernel: _by_functions(transitions[kernel, kind], lambda each: each.value)
                        for kernel in kernels
                    }
                    for kind in _DIRECTIONS
                },
                across="functions",
            ),
        ),
    )
    return render(
        "page.html.j2",
        str(__package__),
        kernels=kernels,
        facts=facts,
        at=charts,
        calls=charts.bars({what: row for what, row in rows.items() if row}, kernels),
        sections=sections,
        rows=table_rows(kernels, results),
        transitions=[
            (f"{kernel}, {kind.value}", there)
            for (kernel, kind), there in transitions.items()
            if there
        ],
        headings=HEADINGS,
        row_of=row_of,
        shown=instructions,
        partial=partial,
    )


def _by_tasks(results: Sequence[CostResult]) -> dict[str, list[tuple[float, float]]]:
    """Return what an attempt costs against the tasks, for each number of functions."""
    series: dict[str, list[tuple[float, float]]] = {}
    for each in results:
        name = f"{each.functions} function{'' if each.functions == 1 else 's'}"
        value = sum(phase.value for phase in each.phases if phase.name in (TRY, SWITCH))
        series.setdefault(name, []).append((each.tasks or 0, value))
    return series


def _by_functions(results: Sequence[CostResult], value: _Value) -> list[tuple[float, float]]:
    """Return a value against the functions, where the fewest tasks are."""
    fewest: dict[int, CostResult] = {}
    for each in results:
        fewest.setdefault(each.functions or 0, each)
    return [(functions, value(each)) for functions, each in sorted(fewest.items())]


def _longest(result: CostResult) -> float:
    return next((lock.longest for lock in result.locks if lock.name == TASK_LOCK), 0)
