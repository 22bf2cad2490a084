# SPDX-License-Identifier: GPL-2.0-only
"""Runs the experiments on fresh guests, and returns the kernel's place with the evidence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from harness.report.base import CheckOutcome
from harness.tools.classify.experiments import Laboratory
from harness.tools.classify.model import Body, Cell, Seen, find_cell, find_forced
from harness.tools.classify.results import ClassifyResult, Experiment, Leave, Switch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.tools.classify.experiments import Inside
    from harness.tools.classify.model import Calls
    from harness.vm.guest.machine import Machine

    FreshGuest = Callable[[str], AbstractContextManager[Machine]]

KERNEL, FORCED = "kernel", "forced"
T = TypeVar("T")


def classify(fresh_guest: FreshGuest, modules: Mapping[str, Path]) -> tuple[ClassifyResult, ...]:
    """Return two results: of the kernel as it works by itself, and after ``force``.

    ``fresh_guest`` starts a guest of that name. Raises KernelVerdict when a guest dies or
    complains, a transition does not end, or the observations fit no place in the table.
    """
    start_s = time.monotonic()
    inside = _try(fresh_guest, modules, "inside", lambda laboratory: laboratory.inside())
    beside = _try(fresh_guest, modules, "beside", lambda laboratory: laboratory.beside())
    between = _try(fresh_guest, modules, "between", lambda laboratory: laboratory.between())
    seen = Seen(inside=inside.inside, free=inside.free, beside=beside, between=between)
    cell = find_cell(seen)
    kernel = _result(KERNEL, cell, start_s, experiments(seen))
    start_s = time.monotonic()
    after = _try(fresh_guest, modules, FORCED, lambda laboratory: laboratory.inside(force=True))
    forced = find_forced(after.inside, cell)
    return kernel, _result(FORCED, forced, start_s, (forced_experiment(after),))


def _try(
    fresh_guest: FreshGuest,
    modules: Mapping[str, Path],
    name: str,
    experiment: Callable[[Laboratory], T],
) -> T:
    with fresh_guest(name) as machine:
        result = experiment(Laboratory(machine, modules))
        machine.check_splats()
        return result


def _result(
    name: str, cell: Cell, start_s: float, experiments: tuple[Experiment, ...]
) -> ClassifyResult:
    return ClassifyResult(
        id=name,
        outcome=CheckOutcome.PASSED,
        seconds=time.monotonic() - start_s,
        leave=cell.leave,
        switch=cell.switch,
        experiments=experiments,
    )


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


def place(result: ClassifyResult) -> Cell:
    """Return the place in the table that a result has."""
    return Cell(leave=result.leave, switch=result.switch)


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
