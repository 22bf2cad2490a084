# SPDX-License-Identifier: GPL-2.0-only
"""The command `make bench`: what it measures, prints and keeps, and how it ends."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import benchmarks.command as command
from benchmarks.app import app
from benchmarks.earlier import keep, machine_kind, processor, read_earlier
from benchmarks.figures import Bound, Budget, Figure, ratio, side
from benchmarks.results import BenchReport
from harness.errors import CommandTimeout, GuestPanic

if TYPE_CHECKING:
    from collections.abc import Iterator


# Of a real clone just connected, the only one to map its template's RAM.
MET = Figure(id="a", what="one", value=1, unit="s", budget=Budget(bound=Bound.AT_MOST, value=2))
MISSED = Figure(id="b", what="two", value=3, unit="s", budget=Budget(bound=Bound.AT_MOST, value=2))


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The command with measurements that return or raise what a test gives."""
    answers: dict[str, Any] = {"start": [MET]}
    others = (
        "overlap",
        "counted",
        "explore",
        "upstream",
        "kept",
        "suite",
        "instructions",
        "mutant",
    )
    answers |= {name: [] for name in (*others, "build")}

    def answer(name: str) -> Any:
        def measurement(*_: object, **__: object) -> list[Figure]:
            answers.setdefault("asked", []).append(name)
            if isinstance(answers[name], Exception):
                raise answers[name]
            return list(answers[name])

        return measurement

    @contextlib.contextmanager
    def session(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(settings=None, folder=None)

    nothing = SimpleNamespace(describe=lambda: "6.1", spec="6.1", version="6.1.192")
    for name, stand_in in (
        ("prepare_accel", lambda *_: SimpleNamespace(accel=SimpleNamespace(value="tcg"))),
        ("prepare_kernel", lambda *_: nothing),
        ("prepare_modules", lambda *_: {}),
        ("runs", SimpleNamespace(open_session=session)),
        ("record_path", lambda: tmp_path / "state/bench.jsonl"),
        ("start_of_a_guest", answer("start")),
        ("overlap_of_guests", answer("overlap")),
        ("explore_trials", answer("explore")),
        ("start_instructions", answer("counted")),
        ("upstream_cases", answer("upstream")),
        ("kept_guest", answer("kept")),
        ("instructions", answer("instructions")),
        ("mutant_build", answer("mutant")),
        ("cold_build", answer("build")),
        ("whole_suite", answer("suite")),
    ):
        monkeypatch.setattr(command, name, stand_in)
    return answers


def bench(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["bench", *words])
    return result.exit_code, result.output


def test_everything_is_measured_and_met_budgets_end_with_0(measured: dict[str, Any]) -> None:
    """All figures are measured by default; exit code 0 when all budgets are met."""
    code, said = bench()
    assert code == 0
    assert MET.describe() in said
    assert measured["asked"] == [
        *("start", "overlap", "counted", "explore", "upstream", "kept", "suite", "instructions"),
        *("mutant", "build"),
    ]


@pytest.mark.parametrize("words", [(), ("--quick",)])
def test_a_missed_budget_ends_with_1(measured: dict[str, Any], words: tuple[str, ...]) -> None:
    """One missed budget is exit code 1."""
    measured["start"] = [MET, MISSED]
    assert bench(*words)[0] == 1


def test_quick_says_what_it_leaves_out(measured: dict[str, Any]) -> None:
    """--quick measures the short figures and names the others."""
    _, said = bench("--quick")
    assert measured["asked"] == ["start", "overlap"]
    assert "left out by --quick: kept-guest, instructions, explore-trial, upstream-cases" in said


def test_a_kernel_without_mutants_is_told(
    measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without mutants has no such figure, unless that is asked for by name."""
    monkeypatch.setattr(command, "mutants_to_build", lambda _: ())
    assert "mutant-build is left out: there is no mutant" in bench()[1]
    assert "mutant" not in measured["asked"]
    bench("mutant-build")
    assert "mutant" in measured["asked"]


def test_figures_are_measured_by_name(measured: dict[str, Any]) -> None:
    """Only the named figures are measured."""
    assert bench("suite", "guest-start")[0] == 0
    assert measured["asked"] == ["start", "suite"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("speed",), "there is no figure speed"),
        (("suite", "--quick"), "cannot be used with the name"),
    ],
)
def test_a_choice_that_is_none(measured: dict[str, Any], words: tuple[str, ...], told: str) -> None:
    """An unknown figure, and a figure with --quick, are refused at once."""
    code, said = bench(*words)
    assert (code, "asked" in measured) == (2, False)
    assert told in said


@pytest.mark.parametrize(
    ("error", "code"), [(CommandTimeout("too slow"), 3), (GuestPanic("the guest panicked"), 1)]
)
def test_a_measurement_that_fails_does_not_hide_the_others(
    measured: dict[str, Any], error: Exception, code: int
) -> None:
    """The other figures are measured; the exit code is the error's."""
    measured |= {"start": error, "suite": [MISSED]}
    ended, said = bench()
    assert ended == code
    assert str(error) in said
    assert MISSED.describe() in said


def test_json_has_value_unit_budget_and_both_sides(
    measured: dict[str, Any], tmp_path: Path
) -> None:
    """The JSON report has everything that the line of a figure has."""
    first, second = side("8 guests", "cycles/s", [1.4]), side("1 guest", "cycles/s", [0.3])
    budget = Budget(bound=Bound.AT_LEAST, value=4.5)
    measured["overlap"] = [ratio("guest-overlap", "cycles", first, second, budget)]
    file = tmp_path / "bench.json"
    bench("--json", str(file))
    report = BenchReport.model_validate_json(file.read_text())
    assert isinstance(report, BenchReport)
    found = json.loads(file.read_text())["results"]
    assert [result["id"] for result in found] == ["a", "guest-overlap"]
    assert found[1]["value"] == pytest.approx(1.4 / 0.3)
    assert found[1]["outcome"] == "passed"
    assert (found[1]["budget"], found[1]["bound"]) == (4.5, "at least")
    assert [(s["name"], s["value"], s["unit"]) for s in found[1]["sides"]] == [
        ("8 guests", 1.4, "cycles/s"),
        ("1 guest", 0.3, "cycles/s"),
    ]


def test_each_figure_is_compared_with_the_last_one(measured: dict[str, Any]) -> None:
    """The first run has nothing to compare with; the second has the first one's day and value."""
    assert "it was" not in bench("guest-start")[1]
    measured["start"] = [replace(MET, value=1.5)]
    said = bench("guest-start")[1]
    assert re.search(r"one: 1\.5 s .* met; it was 1 on 20\d\d-\d\d-\d\d \(\+50\.0% now\)", said)
    measured["start"] = [replace(MET, value=3.0)]
    assert "(+100.0% now)" in bench("guest-start")[1]


def test_figures_of_other_machines_and_of_zero_are_not_compared(tmp_path: Path) -> None:
    """Cores, accelerator and kernel make the kind; a share of nothing has no meaning."""
    path = tmp_path / "bench.jsonl"
    kind = machine_kind(cores=2, accel="tcg", kernel="6.1.192")
    keep(path, machine_kind(cores=4, accel="tcg", kernel="6.1.192"), {"a": 1.0})
    assert read_earlier(path, kind).values == {}
    keep(path, kind, {"a": 0.0})
    assert read_earlier(path, kind).since(MET).startswith("; it was 0 on 20")


def test_damaged_lines_cost_no_other_line(tmp_path: Path) -> None:
    """A line that was cut off, lines of another shape: the others are read, these are counted."""
    path = tmp_path / "bench.jsonl"
    keep(path, "kind", {"a": 1.0})
    with path.open("a") as file:
        file.write('[]\n{"machine": "kind", "at": 1, "figures": 3}\n{"machine": "ki')
    keep(path, "kind", {"b": 2.0})
    found = read_earlier(path, "kind")
    assert {name: value for name, (value, _) in found.values.items()} == {"a": 1.0, "b": 2.0}
    assert found.unread.endswith("damaged lines: 3")
    assert read_earlier(tmp_path, "kind").unread.endswith(f"'{tmp_path}'")


def test_figures_are_shown_where_they_cannot_be_kept(
    measured: dict[str, Any], tmp_path: Path
) -> None:
    """A file in place of the folder: a note, and the exit code is that of the budgets."""
    (tmp_path / "state").write_text("")
    code, said = bench("guest-start")
    assert (code, MET.describe() in said) == (0, True)
    assert "the figures are not kept for later runs" in said
    assert "not all earlier figures can be read" in said


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: A CPU @ 2.00GHz\nmodel name\t: B\n", "A CPU @ 2.00GHz"),
        ("processor: 0\n", "a processor without a name"),
    ],
)
def test_the_name_of_the_processor(text: str, name: str) -> None:
    """The first one's; some virtual machines give none."""
    assert processor(text) == name
