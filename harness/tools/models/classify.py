# SPDX-License-Identifier: GPL-2.0-only
"""Runs the experiments on fresh guests, and returns the kernel's place with the evidence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.base import CheckOutcome
from harness.threads import run_jobs
from harness.tools.models.cells import Body, Seen, find_cell, find_forced
from harness.tools.models.experiments import Laboratory
from harness.tools.models.results import ClassifyResult, Experiment, Leave, Switch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.tools.models.catalogue import Model
    from harness.tools.models.cells import Calls
    from harness.tools.models.experiments import Inside
    from harness.vm.guest.machine import Machine

    FreshGuest = Callable[[str], AbstractContextManager[Machine]]

KERNEL, FORCED = "kernel", "forced"


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One experiment: its name, and what is done in the laboratory."""

    name: str
    do: Callable[[Laboratory], Any]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What an experiment has seen, and why its transition never ended."""

    name: str
    seen: Any
    never_ended: str | None


_JOBS = (
    _Job(name="inside", do=lambda laboratory: laboratory.inside()),
    _Job(name="beside", do=lambda laboratory: laboratory.beside()),
    _Job(name="between", do=lambda laboratory: laboratory.between()),
    _Job(name=FORCED, do=lambda laboratory: laboratory.inside(force=True)),
)


def classify(
    fresh_guest: FreshGuest,
    modules: Mapping[str, Path],
    *,
    model: Model | None = None,
    guests: int = 1,
) -> tuple[ClassifyResult, ...]:
    """Return two results: of the kernel as it works by itself, and after ``force``.

    ``fresh_guest`` starts a guest of that name; ``guests`` of them run at a time. Of a ``model``
    the place is compared with its own. Raises KernelVerdict when a guest dies or complains, a
    transition does not end, or the observations fit no place in the table.
    """
    start_s = time.monotonic()
    found = {
        each.name: each
        for each in run_jobs(
            _JOBS,
            lambda job: _try(fresh_guest, modules, job),
            at_a_time=min(guests, len(_JOBS)),
            name="classify",
        )
    }
    return results_from(found, model, time.monotonic() - start_s)


def results_from(
    found: Mapping[str, Observed], model: Model | None, seconds: float
) -> tuple[ClassifyResult, ...]:
    """Return the two results from what each experiment has seen; raises as `find_cell` does."""
    inside: Inside = found["inside"].seen
    seen = Seen(
        inside=inside.inside,
        free=inside.free,
        beside=found["beside"].seen,
        between=found["between"].seen,
    )
    cell = find_cell(seen)
    after: Inside = found[FORCED].seen
    reasons = [each.never_ended for each in found.values() if each.never_ended is not None]
    expected = model.cell if model is not None else None
    wrong = expected is not None and cell != expected
    result = ClassifyResult(
        id=KERNEL if model is None else model.name,
        outcome=CheckOutcome.FAILED if wrong else CheckOutcome.PASSED,
        seconds=seconds,
        leave=cell.leave,
        switch=cell.switch,
        experiments=experiments(seen),
        model=model.name if model is not None else None,
        expected=str(expected) if expected is not None else None,
        never_ended=reasons[0] if reasons else None,
        detail=f"the model is {expected}, its kernel is {cell}" if wrong else None,
    )
    forced = find_forced(after.inside, cell)
    return result, result.model_copy(
        update={
            "id": FORCED if model is None else f"{model.name}, forced",
            "outcome": CheckOutcome.PASSED,
            "seconds": 0.0,
            "leave": forced.leave,
            "switch": forced.switch,
            "experiments": (forced_experiment(after),),
            "expected": None,
            "forced": True,
            "never_ended": None,
            "detail": None,
        }
    )


def _try(fresh_guest: FreshGuest, modules: Mapping[str, Path], job: _Job) -> Observed:
    with fresh_guest(job.name) as machine:
        laboratory = Laboratory(machine, modules)
        seen = job.do(laboratory)
        machine.check_splats()
        return Observed(name=job.name, seen=seen, never_ended=laboratory.never_ended)


def experiments(seen: Seen) -> tuple[Experiment, ...]:
    """Return a description of each experiment: what was done and seen, and what it means."""
    return (
        Experiment(
            id="inside",
            done="A task sleeps inside the old outer function; both functions are patched; the "
            "task goes on and calls the inner function from there.",
            seen=f"It met the {seen.inside.bodies[-1]} inner function.",
            means=_inside_means(seen.inside),
        ),
        Experiment(
            id="free",
            done="While that task sleeps, another comes from user mode and calls both.",
            seen=f"It met {seen.free}.",
            means=_free_means(seen.free),
        ),
        Experiment(
            id="beside",
            done="A task sleeps in a system call, in a function that is not patched; the patch is "
            "loaded; in the same call the task then calls both.",
            seen=f"It met {seen.beside}.",
            means=_beside_means(seen.beside),
        ),
        Experiment(
            id="between",
            done="The patch's first object has been handed to ftrace, its second has not; a task "
            "calls functions of both.",
            seen=f"It met {seen.between}.",
            means=_between_means(seen.between),
        ),
    )


def forced_experiment(after: Inside) -> Experiment:
    """Return a description of the experiment with a forced task."""
    forced = "the transition is forced" if after.forced else "nothing was left to force"
    return Experiment(
        id=FORCED,
        done="A task sleeps inside the old outer function; both functions are patched; "
        f"{forced}; the task goes on and calls the inner function from there.",
        seen=f"It met the {after.inside.bodies[-1]} inner function.",
        means=_inside_means(after.inside),
    )


def _inside_means(calls: Calls) -> str:
    if calls.mixed:
        return (
            f"Out of the inner function was enough: {Leave.FUNCTION}. One thread is in old and "
            f"new at once: {Switch.FUNCTION}."
        )
    return f"Being out of the inner function was not enough: not {Leave.FUNCTION}."


def _free_means(calls: Calls) -> str:
    if calls.mixed:
        return f"One thread met old and new functions: {Switch.FUNCTION}."
    if calls.all(Body.OLD):
        return f"It waits for another thread, so the kernel switches as a whole: {Switch.KERNEL}."
    return f"It did not wait for the other thread: not {Switch.KERNEL}."


def _beside_means(calls: Calls) -> str:
    if calls.mixed:
        return f"One thread met old and new functions: {Switch.FUNCTION}."
    if calls.all(Body.OLD):
        return f"Being out of all patched functions was not enough: {Leave.KERNEL}."
    return f"It did not have to leave the kernel: not {Leave.KERNEL}."


def _between_means(calls: Calls) -> str:
    if calls.mixed:
        return f"Each function switches by itself: {Switch.FUNCTION}."
    return f"No function switched before the others: not {Switch.FUNCTION}."
