# SPDX-License-Identifier: GPL-2.0-only
"""Figures and budgets: what is computed, what is said of it, and how a missed budget ends."""

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
from benchmarks import builds, explored, kept, peers
from benchmarks.app import app
from benchmarks.builds import MUTANT_BUILD_RATIO, Stages, mutant_build, mutants_to_build
from benchmarks.earlier import keep, machine_kind, processor, read_earlier
from benchmarks.figures import Bound, Budget, Figure, ratio, side
from benchmarks.measure import (
    RESTORE_RATIO,
    own_mib,
    percent_done,
    rate_while_all_work,
)
from benchmarks.reference import boots
from benchmarks.results import BenchReport
from benchmarks.upstream import EQUIVALENTS, upstream_cases
from harness.behaviours.rule_tests import find_rule_tests
from harness.behaviours.table import load_table
from harness.errors import CommandTimeout, GuestPanic, HarnessError, MissingTool, UsageError
from harness.resources import Resource, resource_dir
from harness.tools.selftests.tree import SUITE
from harness.vm.host.accel import Accel
from harness.vm.host.cache import Store
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.kernel.build import KernelRequest

# Of a real clone just connected, the only one to map its template's RAM.
ROLLUP = """\
558869ae2000-7ffc8cdef000 ---p 00000000 00:00 0                          [rollup]
Rss:               75340 kB
Pss:               62711 kB
Pss_Dirty:         52908 kB
Pss_Anon:          37536 kB
Pss_File:           9803 kB
Pss_Shmem:         15372 kB
Shared_Clean:      22200 kB
Shared_Dirty:          0 kB
Private_Clean:       232 kB
Private_Dirty:     52908 kB
Anonymous:         37536 kB
AnonHugePages:     20480 kB
"""
SILENT = LineProgress(lambda _line: None)
MET = Figure(id="a", what="one", value=1, unit="s", budget=Budget(bound=Bound.AT_MOST, value=2))
MISSED = Figure(id="b", what="two", value=3, unit="s", budget=Budget(bound=Bound.AT_MOST, value=2))


@pytest.mark.parametrize(
    ("bound", "value", "holds"),
    [
        (Bound.AT_MOST, 1.9, True),
        (Bound.AT_MOST, 2.0, True),
        (Bound.AT_MOST, 2.1, False),
        (Bound.AT_LEAST, 1.9, False),
        (Bound.AT_LEAST, 2.0, True),
        (Bound.AT_LEAST, 2.1, True),
    ],
)
def test_a_budget_is_an_upper_or_a_lower_bound(bound: Bound, value: float, holds: bool) -> None:
    """A budget holds at its bound and on the right side of it."""
    assert Budget(bound=bound, value=2.0).holds(value) is holds


def test_a_side_is_the_median_of_its_runs() -> None:
    """One slow run does not change the value of a side."""
    assert side("restored", "s", [0.3, 9.0, 0.2]).value == 0.3
    assert side("restored", "s", [0.3, 9.0, 0.2]).runs == (0.3, 9.0, 0.2)


def test_a_ratio_is_the_first_side_by_the_second_and_tells_both() -> None:
    """The line of a ratio has both sides and the budget."""
    figure = ratio(
        "guest-start",
        "start of a guest",
        side("restored", "s", [0.25]),
        side("booted", "s", [4.0]),
        Budget(bound=Bound.AT_MOST, value=RESTORE_RATIO),
    )
    assert figure.value == 0.25 / 4.0
    assert figure.met
    assert figure.describe() == (
        "start of a guest: 0.0625 (restored 0.25 s against booted 4 s) - budget at most 0.0833: met"
    )


def test_a_missed_budget_cannot_be_overlooked() -> None:
    """The line of a missed budget has it in capitals."""
    assert MISSED.met is False
    assert MISSED.describe() == "two: 3 s - budget at most 2 s: MISSED"


def test_a_figure_without_a_budget_is_only_reported() -> None:
    """Without a budget nothing is met or missed."""
    figure = Figure(id="clone-memory", what="memory of a clone", value=45.94, unit="MiB")
    assert figure.met is None
    assert figure.describe() == "memory of a clone: 45.9 MiB"


def test_a_large_figure_keeps_its_digits() -> None:
    """Rounding to three digits stops at 100."""
    assert Figure(id="x", what="build", value=312.6, unit="s").describe() == "build: 313 s"


def test_a_rate_counts_only_while_all_work() -> None:
    """Worker 1 is alone until 3 and after 7: between are its two cycles and two of worker 2."""
    assert rate_while_all_work([[1, 5, 6, 7.0], [3, 5, 7.5]]) == (3 + 1) / 4


def test_the_rate_of_one_worker_leaves_out_its_first_cycle() -> None:
    """The first cycle of a worker and its time do not count."""
    assert rate_while_all_work([[10.0, 12.0, 14.0]]) == 0.5


@pytest.mark.parametrize("ends_s", [[[1.0]], [[1.0, 2.0], [3.0, 4.0]]])
def test_there_is_no_rate_without_a_time_when_all_work(ends_s: list[list[float]]) -> None:
    """Workers that were never busy at the same time have no common rate."""
    with pytest.raises(HarnessError, match="did not all work at the same time"):
        rate_while_all_work(ends_s)


def test_pages_that_a_clone_only_read_are_not_its_own() -> None:
    """Private_Dirty has them when this clone is the only one that maps them."""
    assert own_mib(ROLLUP) == pytest.approx(37536 / 1024)


def test_a_kernel_that_does_not_tell_the_memory_is_an_error() -> None:
    """A smaps_rollup without the line is an error, not zero."""
    with pytest.raises(HarnessError, match="Anonymous"):
        own_mib("Rss: 1 kB\n")


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("........................................     [ 37%]\n", 37),
        ("...............                              [100%]", 100),
        ("[gw1] [ 37%] PASSED tests/x.py", None),
        ("12 passed", None),
    ],
)
def test_how_far_pytest_is(line: str, percent: int | None) -> None:
    """The percentage is read from pytest's rows of dots only."""
    assert percent_done(line) == percent


def test_the_last_stage_has_its_own_clock() -> None:
    """The time of the build is counted from the start of its own stage."""
    now = iter([0.0, 10.0, 25.0, 60.0])
    stages = Stages(SILENT, clock=lambda: next(now))
    stages.stage("downloading")
    stages.stage("building")
    stages.count(1, 2, "objects")
    assert stages.last_s == 35.0


def kernel(spec: str, version: str) -> Any:
    return SimpleNamespace(spec=spec, version=version, describe=lambda: version)


def test_mutants_are_built_under_names_of_their_own_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant that the cache has would take no time. The clean kernel is another key."""
    names: list[str] = []
    took = iter([0.0, 9.0, 10.0, 30.0, 40.0, 53.0])
    removed: list[str] = []

    def obtain(request: KernelRequest, **_: object) -> Any:
        [patch] = request.patches
        assert patch.is_file()
        names.append(patch.name)
        return SimpleNamespace(digest=f"key {len(names)}")

    monkeypatch.setattr(builds, "obtain_kernel", obtain)
    monkeypatch.setattr(builds, "time", SimpleNamespace(monotonic=lambda: next(took)))
    monkeypatch.setattr(Store, "remove", lambda _, kind, key: removed.append(key))
    made = kernel("6.1", "6.1.192")
    monkeypatch.setattr(builds, "modules_build", lambda _: side("the sample modules", "s", [26.0]))
    [figure] = mutant_build(made, tmp_path, progress=SILENT)
    assert (figure.value, figure.sides[0].value, figure.sides[0].unit) == (0.5, 13.0, "s")
    assert figure.budget == Budget(bound=Bound.AT_MOST, value=MUTANT_BUILD_RATIO)
    assert removed == ["key 1", "key 2", "key 3"]
    assert len(set(names)) == 3
    known = {mutant.path.name for mutant in mutants_to_build(made)}
    assert len(known) == 3
    assert not set(names) & known


@pytest.mark.parametrize(
    ("spec", "version"), [("5.10", "5.10.262"), ("build:.", "6.1.192"), ("deb:a", "6.1.192")]
)
def test_kernels_without_a_mutant_to_build(spec: str, version: str, tmp_path: Path) -> None:
    """A series that none is written for, and what comes without sources."""
    made = kernel(spec, version)
    assert mutants_to_build(made) == ()
    with pytest.raises(UsageError, match="no mutant to build"):
        mutant_build(made, tmp_path, progress=SILENT)


def test_a_kept_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time is that of a command that succeeded; the guest is stopped in any case."""
    asked: list[tuple[str, ...]] = []

    def answered(*words: str, stdin: str | None = None) -> Any:
        asked.append(words)
        if words[0] == "dump":
            Path(words[3]).write_bytes(b"x")
        said = "kept: guest boot-1 (the script ended with exit code 1)" if stdin else ""
        return SimpleNamespace(returncode=codes.get(words[0], 0), stderr=said)

    codes: dict[str, int] = {}
    place: Any = None
    monkeypatch.setattr(kept, "_klp", answered)
    monkeypatch.setattr(kept, "boots", lambda _, runs: side("a boot", "s", [2.0] * runs))
    figures = kept.kept_guest(place, "6.1", "tcg", times=2, progress=SILENT)
    assert [(each.id, each.met) for each in figures] == [("kept-ssh", True), ("kept-dump", True)]
    assert [each.sides[1].runs for each in figures] == [(2.0, 2.0)] * 2
    assert [words[0] for words in asked] == ["boot", "ssh", "dump", "ssh", "dump", "guests"]
    codes["ssh"] = 255
    with pytest.raises(HarnessError, match="ssh failed with exit code 255"):
        kept.kept_guest(place, "6.1", "tcg", times=2, progress=SILENT)
    assert asked[-1] == ("guests", "stop", "boot-1")


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The command with measurements that return or raise what a test gives."""
    answers: dict[str, Any] = {"start": [MET]}
    others = ("overlap", "explore", "upstream", "kept", "instructions", "mutant", "build", "suite")
    answers |= {name: [] for name in others}

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
        *("start", "overlap", "explore", "upstream", "kept", "suite", "instructions", "mutant"),
        "build",
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


def test_a_trial_of_race_explore(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command by the trials that it made; a finding, or no trial, is no figure."""
    tried, code = [20, 40], 0

    def run(words: list[str], **_: object) -> SimpleNamespace:
        file = next(each for each in words if each.startswith("--json=")).partition("=")[2]
        Path(file).write_text(json.dumps({"results": [{"tried": each} for each in tried]}))
        return SimpleNamespace(returncode=code, seconds=30.0, stderr="it failed\n")

    @contextlib.contextmanager
    def nothing(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(guest=nothing)

    monkeypatch.setattr(explored, "run", run)
    asked: list[Accel] = []
    place: Any = SimpleNamespace(session=nothing, kernel=None)
    assert len(boots(place, runs=3).runs) == 3

    def under(accel: Accel) -> Any:
        asked.append(accel)
        return place

    place.under = under
    (figure,) = explored.explore_trials(place, "6.1", runs=2, progress=SILENT)
    assert asked == [Accel.TCG]
    assert figure.sides[0].value == 0.5
    assert len(figure.sides[1].runs) == 2
    tried = [0]
    with pytest.raises(HarnessError, match="no trial was made"):
        explored.explore_trials(place, "6.1", runs=1, progress=SILENT)
    code = 1
    with pytest.raises(HarnessError, match="exit code 1, so its time means nothing"):
        explored.explore_trials(place, "6.1", runs=1, progress=SILENT)


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


def test_every_equivalent_of_a_selftest_proves_a_rule_of_upstreams() -> None:
    """Each is a test of the suite, and of a rule that the selftests test."""
    public = {rule.id for rule in load_table().rule if "upstream" in rule.public}
    carriers = find_rule_tests(resource_dir(Resource.BEHAVIOUR_TESTS))
    proving = {test for rule in public for test in carriers[rule]}
    named = {test for tests in EQUIVALENTS.values() for test in tests}
    assert {test.partition("[")[0] for test in named} <= proving
    assert len(EQUIVALENTS) == 22


def test_unknown_selftests_are_no_figure(tmp_path: Path) -> None:
    """A kernel with cases of which nothing is known here is refused, before any guest starts."""
    suite = tmp_path / SUITE
    suite.mkdir(parents=True)
    (suite / "Makefile").write_text("TEST_PROGS := test-new.sh\n")
    (suite / "test-new.sh").write_text('start_test "something new"\n')
    kernel = SimpleNamespace(build_dir=tmp_path, describe=lambda: "7.2")
    bench: Any = SimpleNamespace(kernel=kernel)
    with pytest.raises(HarnessError, match=re.escape("test-new.sh/something new")):
        upstream_cases(bench, "7.2", "tcg", progress=SILENT)


def test_the_peer_without_udev_is_told_before_anything_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing udev is reported before the download."""
    monkeypatch.setattr(peers, "program", lambda name: lambda: None)
    with pytest.raises(MissingTool, match="need udev") as caught:
        peers.virtme_ng(None, "6.1", None, runs=1, progress=SILENT)  # type: ignore[arg-type]
    assert caught.value.hint == "Debian, Ubuntu: apt-get install udev"
