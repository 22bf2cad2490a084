# SPDX-License-Identifier: GPL-2.0-only
"""Takes the measures of ``models compare`` on all models, by turns, and makes results of them."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import (
    HarnessError,
    KernelDoesNotBoot,
    KernelVerdict,
    KlpError,
    is_of_guest,
)
from harness.report.base import CheckOutcome
from harness.threads import run_jobs
from harness.tools.models.bench_guest import BenchGuest
from harness.tools.models.findings import NOT_TRIED, Finding
from harness.tools.models.measures_cost import stall, time_by_tasks, time_under_load, woken
from harness.tools.models.measures_limits import (
    always_in_use,
    forks,
    kthread_asleep,
    modules_coming,
    reversal,
)
from harness.tools.models.measures_model import consistency, data_at_once, data_when_used
from harness.tools.models.results import ComparedResult
from harness.tools.models.rows import ROW, ROWS, SIZES, STALLS, time_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.tools.models.catalogue import Model
    from harness.vm.guest.machine import Machine


MOST_ROUNDS = 100


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is done in a fresh guest, and the rows that it fills.

    ``alone``: its guest is the only one, since it takes times. Then it is repeated, in so many
    rounds at most.
    """

    name: str
    rows: tuple[str, ...]
    take: Callable[[BenchGuest], Iterator[Finding]]
    alone: bool = False
    most_rounds: int = MOST_ROUNDS


MEASURES: tuple[Measure, ...] = (
    Measure(
        name="tasks", rows=tuple(time_id(size) for size in SIZES), take=time_by_tasks, alone=True
    ),
    Measure(name="load", rows=("time-load",), take=time_under_load, alone=True, most_rounds=2),
    Measure(name="stall", rows=STALLS, take=stall, alone=True, most_rounds=2),
    Measure(name="in-use", rows=("in-use",), take=always_in_use),
    Measure(name="kthread", rows=("kthread",), take=kthread_asleep),
    Measure(name="consistency", rows=("both", "mixed"), take=consistency),
    Measure(name="woken", rows=("woken",), take=woken),
    Measure(name="world", rows=("world",), take=data_at_once),
    Measure(name="access", rows=("access",), take=data_when_used),
    Measure(name="reversal", rows=("reversal",), take=reversal),
    Measure(name="forks", rows=("forks",), take=forks),
    Measure(name="modules", rows=("modules",), take=modules_coming),
)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model that can be booted: ``guest`` starts a fresh guest of a name."""

    model: Model
    modules: Mapping[str, Path]
    guest: Callable[[str], AbstractContextManager[Machine]]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One measure of one model, taken once: what was found, and what ended it early."""

    model: str
    measure: Measure
    findings: tuple[Finding, ...]
    seconds: float
    error: Exception | None = None


@dataclass
class _Cell:
    """What is known of a row for a model."""

    findings: list[Finding] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    seconds: float = 0.0


class Collected:
    """All that was found so far, by row and model."""

    def __init__(self, models: Sequence[str]) -> None:
        self._models = models
        self._cells: dict[tuple[str, str], _Cell] = {}

    def add(self, tried: Tried) -> None:
        """Add what one trial found. What ended it counts for the rows that it did not reach."""
        found = {finding.row for finding in tried.findings}
        for row in tried.measure.rows:
            cell = self._cells.setdefault((row, tried.model), _Cell())
            cell.findings += [finding for finding in tried.findings if finding.row == row]
            cell.seconds += tried.seconds / len(tried.measure.rows)
            last = row == tried.measure.rows[-1]
            if tried.error is not None and (row not in found or last):
                cell.errors.append(tried.error)

    def results(self) -> list[ComparedResult]:
        """Return the results so far: row by row, the models in their order."""
        return [
            _result(row.id, model, self._cells[row.id, model])
            for row in ROWS
            for model in self._models
            if (row.id, model) in self._cells
        ]


def compare(
    prepared: Sequence[Prepared], measures: Sequence[Measure], *, rounds: int, at_a_time: int
) -> Iterator[Tried]:
    """Take the measures on all models by turns, and yield what each trial found as it ends.

    Those that take times come one at a time, ``rounds`` times; the others ``at_a_time``. A measure
    in which a transition did not end, and a model that does not boot, are not tried again; nor are
    other times of a model of which no transition ends with hardly a task asleep.
    """
    done: set[tuple[str, str]] = set()
    dead: set[str] = set()
    why: dict[str, str] = {}

    def note(tried: Tried) -> Tried:
        first = tried.findings[0] if tried.findings else None
        if first is not None and first.row == time_id(SIZES[0]) and first.never is not None:
            why[tried.model] = first.never
        if tried.error is not None or any(each.never for each in tried.findings):
            done.add((tried.measure.name, tried.model))
        if isinstance(tried.error, KernelDoesNotBoot):
            dead.add(tried.model)
        return tried

    for number in range(rounds):
        for measure in measures:
            for each in prepared if measure.alone and number < measure.most_rounds else ():
                name = each.model.name
                if (measure.name, name) in done or name in dead:
                    continue
                yield note(
                    _hopeless(measure, each, why[name]) if name in why else _try(each, measure)
                )
    others = [measure for measure in measures if not measure.alone]
    jobs = (
        (each, measure)
        for each, measure in _spread(prepared, others)
        if each.model.name not in dead
    )
    for tried in run_jobs(jobs, lambda job: _try(*job), at_a_time=at_a_time, name="compare"):
        yield note(tried)


def _spread(
    prepared: Sequence[Prepared], measures: Sequence[Measure]
) -> Iterator[tuple[Prepared, Measure]]:
    """Yield each measure of each model, those after each other of different models and measures.

    So those that mostly wait run beside those that use the CPU.
    """
    for first in range(len(measures)):
        for place, each in enumerate(prepared):
            yield each, measures[(first + place) % len(measures)]


def _hopeless(measure: Measure, prepared: Prepared, why: str) -> Tried:
    """Return a trial that is not made: no transition ends, with hardly a task asleep."""
    findings = tuple(
        Finding(row=row, never=f"{NOT_TRIED}: with {SIZES[0]} tasks asleep or fewer it was {why}")
        for row in measure.rows
    )
    return Tried(model=prepared.model.name, measure=measure, findings=findings, seconds=0.0)


def _try(prepared: Prepared, measure: Measure) -> Tried:
    """Take one measure; once more when the host was at fault, as when the guest got no CPU."""
    tried = try_one(prepared, measure)
    return try_one(prepared, measure) if isinstance(tried.error, HarnessError) else tried


def try_one(prepared: Prepared, measure: Measure) -> Tried:
    """Take one measure in a fresh guest; whatever ends it early is a part of what is returned."""
    name, start_s = prepared.model.name, time.monotonic()
    findings: list[Finding] = []
    error: Exception | None = None
    try:
        with prepared.guest(f"{measure.name}-{name}") as machine:
            bench = BenchGuest(machine, prepared.modules, prepared.model.cell)
            for finding in measure.take(bench):
                # What was found before the guest ends counts.
                findings.append(finding)  # noqa: PERF402
            machine.check_splats()
    except (KlpError, OSError, EOFError) as failure:
        if isinstance(failure, OSError) and not (
            is_of_guest(failure) or isinstance(failure, TimeoutError)
        ):
            raise
        error = failure
    return Tried(
        model=name,
        measure=measure,
        findings=tuple(findings),
        seconds=time.monotonic() - start_s,
        error=error,
    )


def not_made(model: str, outcome: CheckOutcome, error: KlpError) -> ComparedResult:
    """Return the result of a model of which there is no kernel."""
    return ComparedResult(
        id=model, outcome=outcome, seconds=0.0, model=model, row="", unit="", detail=error.message
    )


def _result(row: str, model: str, cell: _Cell) -> ComparedResult:
    values = tuple(each.value for each in cell.findings if each.value is not None)
    wrong = [each.wrong for each in cell.findings if each.wrong is not None]
    never = [each.never for each in cell.findings if each.never is not None]
    says = [each.says for each in cell.findings if each.says is not None]
    details = [*wrong, *(_message(error) for error in cell.errors)]
    return ComparedResult(
        id=f"{row}/{model}",
        outcome=_outcome(cell.errors, wrong=bool(wrong)),
        seconds=cell.seconds,
        model=model,
        row=row,
        unit=ROW[row].unit.value,
        tasks=ROW[row].tasks,
        values=values,
        median=statistics.median(values) if values else None,
        never=never[0] if never else None,
        says=says[0] if says else None,
        detail=details[0] if details else None,
    )


def _message(error: Exception) -> str:
    return error.message if isinstance(error, KlpError) else str(error)


def _outcome(errors: Sequence[Exception], *, wrong: bool) -> CheckOutcome:
    """By whose fault it is; what the guest's kernel refused is its own."""
    if any(isinstance(error, KernelDoesNotBoot) for error in errors):
        return CheckOutcome.DOES_NOT_BOOT
    if wrong or any(isinstance(error, KernelVerdict) or is_of_guest(error) for error in errors):
        return CheckOutcome.FAILED
    return CheckOutcome.ERROR if errors else CheckOutcome.PASSED
