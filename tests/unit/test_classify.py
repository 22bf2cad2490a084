# SPDX-License-Identifier: GPL-2.0-only
"""The place in the table LEAVE x SWITCH: made-up kernels of each kind are text apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import KernelVerdict
from harness.report.base import CheckOutcome
from harness.tools.models.catalogue import choose_models, load_models
from harness.tools.models.cells import Calls, Seen, find_cell, find_forced
from harness.tools.models.classify import FORCED, KERNEL, Observed, experiments, results_from
from harness.tools.models.experiments import Inside
from harness.tools.models.results import ClassifyResult, Leave, Switch
from harness.tools.models.terminal import result_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

# What each kernel would show: inside (outer, inner), free, beside, between (with the other object).
OLD, NEW, MIXED = "old old", "new new", "old new"
UNTOUCHED = "old old old"
KERNELS: Mapping[tuple[Leave, Switch], tuple[str, str, str, str]] = {
    # Vojtech Pavlik's examples: the null model; kpatch; kGraft; a kexec with CRIU.
    (Leave.FUNCTION, Switch.FUNCTION): (MIXED, NEW, NEW, "new new old"),
    (Leave.PATCHED_SET, Switch.KERNEL): (OLD, OLD, NEW, UNTOUCHED),
    (Leave.KERNEL, Switch.THREAD): (OLD, NEW, OLD, UNTOUCHED),
    (Leave.KERNEL, Switch.KERNEL): (OLD, OLD, OLD, UNTOUCHED),
    # Linux, and two that nobody has built.
    (Leave.PATCHED_SET, Switch.THREAD): (OLD, NEW, NEW, UNTOUCHED),
    (Leave.PATCHED_SET, Switch.FUNCTION): (OLD, MIXED, NEW, "new new old"),
    (Leave.KERNEL, Switch.FUNCTION): (OLD, NEW, OLD, "new new old"),
}
# Linux without the check of stacks: threads are switched wherever they are.
UNCHECKED = (MIXED, NEW, NEW, UNTOUCHED)


def seen(inside: str, free: str, beside: str, between: str) -> Seen:
    return Seen(
        inside=Calls.parse(inside),
        free=Calls.parse(free),
        beside=Calls.parse(beside),
        between=Calls.parse(between),
    )


@pytest.mark.parametrize("cell", KERNELS, ids=lambda cell: f"{cell[0]}-{cell[1]}")
def test_each_kind_of_kernel_is_found(cell: tuple[Leave, Switch]) -> None:
    """Every row of Pavlik\'s table has observations of its own."""
    found = find_cell(seen(*KERNELS[cell]))
    assert (found.leave, found.switch) == cell


def test_each_experiment_is_needed() -> None:
    """Without any one of the four, two kinds of kernel could not be text apart."""
    shown = [*KERNELS.values(), UNCHECKED]
    for number in range(4):
        rest = [kernel[:number] + kernel[number + 1 :] for kernel in shown]
        assert len(set(rest)) < len(set(shown)), number


def test_without_a_look_at_the_stack_nothing_is_consistent() -> None:
    """Threads are switched one by one, but one of them is in old and new: SWITCH_FUNCTION."""
    found = find_cell(seen(*UNCHECKED))
    assert (found.leave, found.switch) == (Leave.FUNCTION, Switch.FUNCTION)


@pytest.mark.parametrize("cell", KERNELS, ids=lambda cell: f"{cell[0]}-{cell[1]}")
def test_force_makes_the_null_model_of_any_kernel(cell: tuple[Leave, Switch]) -> None:
    """Where force changes nothing the task stays what it was."""
    kernel = find_cell(seen(*KERNELS[cell]))
    forced = find_forced(Calls.parse(MIXED), kernel)
    assert (forced.leave, forced.switch) == (Leave.FUNCTION, Switch.FUNCTION)
    assert find_forced(Calls.parse(OLD), kernel) == kernel


def test_a_contradiction_is_a_verdict() -> None:
    """Observations that no model explains are a failure of the kernel."""
    with pytest.raises(KernelVerdict, match="no model of the table"):
        find_cell(seen(MIXED, NEW, OLD, UNTOUCHED))


@pytest.mark.parametrize("cell", KERNELS, ids=lambda cell: f"{cell[0]}-{cell[1]}")
def test_the_evidence_is_printed(cell: tuple[Leave, Switch]) -> None:
    """No experiment claims to have excluded the place that was found; both halves are argued."""
    leave, switch = cell
    result = ClassifyResult(
        id=KERNEL,
        outcome=CheckOutcome.PASSED,
        seconds=1.0,
        leave=leave,
        switch=switch,
        experiments=experiments(seen(*KERNELS[cell])),
    )
    text = "\n".join(result_lines(result))
    assert f"{leave}, {switch}" in text
    assert f"not {leave}" not in text
    if switch is not Switch.FUNCTION:
        assert f"not {switch}" not in text


def observed(never_ended: str | None = None) -> dict[str, Observed]:
    """What a kernel as kpatch would show."""
    inside = Inside(inside=Calls.parse(OLD), free=Calls.parse(OLD))
    forced = Inside(inside=Calls.parse(MIXED), free=Calls.parse(NEW), forced=True)
    shown = {
        "inside": inside,
        "beside": Calls.parse(NEW),
        "between": Calls.parse(UNTOUCHED),
        FORCED: forced,
    }
    return {
        name: Observed(name=name, seen=each, never_ended=never_ended if name == "beside" else None)
        for name, each in shown.items()
    }


@pytest.mark.parametrize(
    ("name", "outcome"), [("kpatch", CheckOutcome.PASSED), ("kgraft", CheckOutcome.FAILED)]
)
def test_a_kernel_in_another_place_than_its_model(name: str, outcome: CheckOutcome) -> None:
    """It fails, with both places; a kernel in its own place passes."""
    (model,) = choose_models([name], load_models())
    result, forced = results_from(observed(), model, 1.0)
    assert (result.id, result.outcome, result.model) == (name, outcome, name)
    assert result.expected == str(model.cell)
    assert (result.detail is not None) is (outcome is CheckOutcome.FAILED)
    assert (forced.id, forced.forced, forced.outcome) == (
        f"{name}, forced",
        True,
        CheckOutcome.PASSED,
    )
    assert (forced.leave, forced.switch) == (Leave.FUNCTION, Switch.FUNCTION)


def test_a_transition_that_never_ends_is_told() -> None:
    """The result says who held it, and the terminal too."""
    result, _ = results_from(observed("30 tasks had not switched"), None, 1.0)
    assert (result.id, result.outcome) == (KERNEL, CheckOutcome.PASSED)
    assert any("30 tasks had not switched" in line for line in result_lines(result))
