# SPDX-License-Identifier: GPL-2.0-only
"""Costs of two kernels side by side: what `compare --costs` runs, and what it prints."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self

import pytest

import benchmarks.instructions as benchmark
import harness.tools.suite.compare as command
from harness.cli.options import KernelOptions
from harness.errors import HarnessError, UsageError
from harness.report.terminal import LineProgress, Terminal
from harness.vm.guest import runs
from harness.vm.host.accel import Accel, AccelChoice
from tests.unit.test_costs import RESULTS, costing

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cli.child_commands import Command
    from harness.observer.cost_results import CostChange

SIDES = (KernelOptions(spec="6.1"), KernelOptions(spec="6.1"))


class Children:
    """Stands for the child commands: answers each with the next report."""

    def __init__(self, reports: list[object]) -> None:
        self.reports = iter(reports)
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *_: object, **__: object) -> Children:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def run(self, asked: Command) -> SimpleNamespace:
        self.asked.append(asked.arguments)
        return SimpleNamespace(report=next(self.reports), seconds=1.0, log="costs.log")


def report(**values: float) -> SimpleNamespace:
    return SimpleNamespace(error=None, results=costing("6.1.192", **values))


def compare(
    monkeypatch: pytest.MonkeyPatch, folder: Path, reports: list[object]
) -> tuple[tuple[CostChange, ...], Children, str]:
    children = Children(reports)
    stream = io.StringIO()
    terminal = Terminal(stdout=stream, stderr=stream)
    monkeypatch.setattr(command, "ChildCommands", children)
    monkeypatch.setattr(runs, "make_folder", lambda _: folder)
    changes = command._compare_costs(SimpleNamespace(terminal=terminal), SIDES)  # type: ignore[arg-type]
    command._print_costs(terminal, changes)
    return changes, children, stream.getvalue()


def test_both_kernels_are_measured_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each side is measured by a command of its own; what differs is printed with its share."""
    reports: list[object] = [report(patched=80, same=10), report(patched=100, same=10)]
    changes, children, text = compare(monkeypatch, tmp_path, reports)
    assert [each.figure for each in changes] == ["patched"]
    assert children.asked[0][:3] == ("costs", "--quick", "--accel=tcg")
    assert "--kernel=6.1" in children.asked[1]
    assert "+25%  patched: 80 -> 100" in text
    assert "costs: 1 figure of B differ" in text


@pytest.mark.parametrize(
    "broken",
    [
        None,
        SimpleNamespace(error=SimpleNamespace(message="no plugin"), results=RESULTS),
        SimpleNamespace(error=None, results=[]),
    ],
)
def test_costs_that_were_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: object
) -> None:
    """A side without costs is an error that names it, and nothing is compared."""
    with pytest.raises(HarnessError, match=r"the costs of B \(6\.1\) were not measured"):
        compare(monkeypatch, tmp_path, [report(patched=80), broken])


def test_costs_need_translation() -> None:
    """Under KVM --costs is refused before the suites run."""
    with pytest.raises(UsageError, match="--costs needs guests that QEMU translates"):
        command._require_translation(AccelChoice(accel=Accel.KVM, reason="it works"))


def test_the_benchmark_measures_small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """make bench measures few tasks and functions, translated, whatever the other guests are."""
    seen = []

    def measure(choice: object, prepared: object, extent: object) -> list[object]:
        seen.append((choice, prepared, extent))
        return list(RESULTS)

    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setattr(benchmark, "prepare", lambda *given: given)
    monkeypatch.setattr(runs, "accelerator", lambda asked: asked)
    figures = benchmark.instructions("kernel", {}, progress=LineProgress(print))  # type: ignore[arg-type]
    ((choice, prepared, extent),) = seen
    assert (choice, prepared) == ("tcg", ("kernel", {}))
    assert extent.count < 30  # type: ignore[attr-defined]
    assert [figure.id for figure in figures] == ["call-patched"]
