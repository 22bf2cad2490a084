# SPDX-License-Identifier: GPL-2.0-only
"""A file with five mutants, three tests, and sweeps of them without guests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep.baseline import (
    Baseline,
    TestFacts,
)
from harness.tools.mutants.sweep.dispatch import Dispatch
from harness.tools.mutants.sweep.explained import Explained
from harness.tools.mutants.sweep.messages import Ran
from harness.tools.mutants.sweep.parse import candidates

if TYPE_CHECKING:
    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.tools.mutants.sweep.results import SweepResult

FILE = "kernel/livepatch/patch.c"
SOURCE = b"""// SPDX-License-Identifier: GPL-2.0-only
int first(int a)
{
	if (a)
		call(a);
	return 0;
}

static int __init second(int a)
{
	call(a);
	return 0;
}
"""
# negate-condition, delete-call, zero-to-error; of second(): delete-call, zero-to-error.
MUTANTS = candidates({FILE: SOURCE})
NEGATED, CALL, ZERO, AT_BOOT, _ = MUTANTS
QUICK, SLOW, BROKEN = "a/test_a.py::test_quick", "a/test_a.py::test_slow", "b/test_b.py::test_no"


def baseline(cpu_s: float = 0.0, **differs: tuple[Candidate, ...]) -> Baseline:
    """Return one in which the tests reach all of first(), and some mutants make a difference."""
    reached = frozenset(each.number for each in (NEGATED, CALL, ZERO))

    def facts(name: str, seconds: float, outcome: CheckOutcome) -> TestFacts:
        found = frozenset(each.number for each in differs.get(name, (NEGATED, CALL, ZERO)))
        return TestFacts(
            outcome=outcome, seconds=seconds, cpu_s=cpu_s, reached=reached, differs=found
        )

    return Baseline(
        tests={
            QUICK: facts("quick", 1.0, CheckOutcome.PASSED),
            SLOW: facts("slow", 20.0, CheckOutcome.EXPECTED_FAILURE),
            BROKEN: facts("broken", 1.0, CheckOutcome.FAILED),
        }
    )


def dispatch(*mutants: Candidate, of: Baseline | None = None, **more: Any) -> Dispatch:
    settings: dict[str, Any] = {
        "sources": {FILE: SOURCE},
        "guests": 2,
        "compare": False,
    } | more
    return Dispatch(mutants, of or baseline(), **settings)


def explained(
    *mutants: Candidate, kind: Literal["equivalent", "needs"] = "equivalent"
) -> dict[str, Explained]:
    return {
        each.name: Explained(
            file=each.file,
            function=each.function,
            operator=each.operator.value,
            code=SOURCE.splitlines()[each.line - 1].decode().strip(),
            kind=kind,
            why="since",
        )
        for each in mutants
    }


def ran(test: str, outcome: CheckOutcome = CheckOutcome.PASSED, **more: Any) -> Ran:
    return Ran(test=test, outcome=outcome, seconds=2.0, **more)


def play(sweep: Dispatch, answers: dict[str, list[Ran | str | None]]) -> list[SweepResult]:
    """Give each test its answers in turn: a result, None for no end in time, a text for a loss."""
    results = list(sweep.known())
    for task in sweep.tasks():
        assert task.test is not None
        answer = answers[task.test].pop(0)
        lost = answer if isinstance(answer, str) else None
        found = sweep.ended(task, answer if isinstance(answer, Ran) else None, lost=lost)
        results += [found] if found is not None else []
    return results


def results(*outcomes: CheckOutcome) -> list[SweepResult]:
    made = list(dispatch(*MUTANTS, known=explained(*MUTANTS)).known())
    return [
        result.model_copy(update={"outcome": outcome, "detail": None})
        for result, outcome in zip(made, outcomes, strict=False)
    ]
