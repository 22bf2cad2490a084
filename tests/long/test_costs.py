# SPDX-License-Identifier: GPL-2.0-only
"""Costs in instructions: what must hold between figures of one kernel, and between two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.observer.cost_results import CostKind
from harness.observer.watch import require_translation
from harness.pytest_plugin.options import choose
from harness.tools.costs.arithmetic import off_line, spread
from harness.tools.costs.figures import transition_name, vain_name
from harness.tools.costs.points import ENABLE, HOOK, SWITCH, TRY
from harness.tools.costs.run import Extent, measure, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.observer.cost_results import CostResult
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

SLEEPERS, FUNCTIONS = (0, 100, 300), (1, 10)
CALLS = Extent(sleepers=())
TRANSITIONS = Extent(calls=False, sleepers=SLEEPERS, functions=FUNCTIONS)


@pytest.fixture
def figures(
    kernel: Kernel, sample_modules: Mapping[str, Path], pytestconfig: pytest.Config
) -> Figures:
    choice = choose(pytestconfig)
    require_translation(choice, "costs")
    return Figures(kernel, sample_modules, choice)


class Figures:
    """Measures the costs of the kernel under test."""

    def __init__(self, kernel: Kernel, samples: Mapping[str, Path], choice: AccelChoice) -> None:
        self._choice = choice
        self._prepared = prepare(kernel, samples)

    def measure(self, extent: Extent) -> dict[str, CostResult]:
        return {each.figure: each for each in measure(self._choice, self._prepared, extent)}


@pytest.mark.slow(60)
def test_what_a_call_costs(figures: Figures) -> None:
    """A patched call costs more, a traced one more still; how many livepatches there are, nothing.

    Each call of a kind costs the same, so a second run finds the same figures.
    """
    found = figures.measure(CALLS)
    cost = {name.removeprefix("call-"): each.value for name, each in found.items()}
    assert cost["unpatched"] == cost["unloaded"] == 1
    assert cost["unpatched"] < cost["patched"] < cost["transition-new"]
    assert cost["patched"] < cost["patched-kprobe"] < cost["patched-tracer"]
    assert cost["kprobe"] < cost["patched-kprobe"]
    assert cost["stacked-1"] == cost["stacked-2"] == cost["stacked-15"] == cost["patched"]
    again = figures.measure(CALLS)
    assert {name: each.value for name, each in again.items()} == {
        name: each.value for name, each in found.items()
    }


@pytest.mark.slow(60)
def test_what_a_transition_costs(figures: Figures) -> None:
    """An attempt costs so much for each task, and the same each time; ftrace so much a function."""
    found = figures.measure(TRANSITIONS)

    def attempt(sleepers: int, functions: int) -> tuple[float, float]:
        result = found[transition_name(CostKind.PATCHING, sleepers, functions)]
        value = sum(phase.value for phase in result.phases if phase.name in (TRY, SWITCH))
        assert result.tasks is not None
        return float(result.tasks), float(value)

    for functions in FUNCTIONS:
        assert off_line([attempt(sleepers, functions) for sleepers in SLEEPERS]) < 0.05
    assert attempt(300, 1)[1] > 2 * attempt(100, 1)[1]
    one, ten = (
        {
            phase.name: phase.value
            for phase in found[transition_name(CostKind.PATCHING, 0, functions)].phases
        }
        for functions in FUNCTIONS
    )
    for phase in (ENABLE, HOOK):
        assert 5 * one[phase] < ten[phase] < 15 * one[phase]
    for sleepers in SLEEPERS:
        # Those that have switched are passed over.
        assert found[vain_name(sleepers)].value < attempt(sleepers, 1)[1] / 5
        for kind in (CostKind.PATCHING, CostKind.UNPATCHING):
            assert spread(found[transition_name(kind, sleepers, 1)].values) < 0.02
