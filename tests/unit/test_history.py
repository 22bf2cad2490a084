# SPDX-License-Identifier: GPL-2.0-only
"""The history of a job: its files, what is damaged in them, and what changed over its runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.history_files import add_to_history, read_history
from harness.errors import UsageError
from harness.report.history import recorded
from harness.tools.history.page import history_page
from harness.tools.history.results import Change, ChangeKind
from harness.tools.history.trend import paces, series_of, slow_runs, trends
from tests.unit.test_results import HOST

if TYPE_CHECKING:
    from pathlib import Path

    from harness.report.history import RecordedRun

NAMES = ("klp_a@6.1", "klp_b@6.1", "klp_c@6.1", "klp_d@6.1")


def report(**seconds_or_outcome: Any) -> dict[str, Any]:
    """Return a matrix's report; klp_a=12 takes so long, klp_a="failed" fails."""
    results = []
    for name in NAMES:
        given = seconds_or_outcome.get(name.partition("@")[0], 20.0)
        is_time = not isinstance(given, str)
        results.append(
            {
                "id": name,
                "outcome": "passed" if is_time else given,
                "seconds": given if is_time else 20.0,
                "kernel": {"version": "6.1.192"},
                "codes": [] if is_time else ["splat"],
                "detail": "" if is_time else "load: it splats",
                "checks": [
                    {"id": "transition", "outcome": "passed", "seconds": given if is_time else 2.0}
                ],
            }
        )
    return {
        "command": "verify matrix",
        "outcome": "passed",
        "partial": False,
        "seconds": 80.0,
        "harness": "0.2.0",
        "host": HOST.model_dump(),
        "accelerator": "tcg",
        "results": results,
    }


def nights(*each: dict[str, Any], **more: Any) -> list[RecordedRun]:
    """Return a run a night, from November 1 on; each has what differs from 20 s and passed."""
    return [
        recorded({**report(**given), **more}, at=f"2026-11-{number:02}T02:00:00+00:00")
        for number, given in enumerate(each, start=1)
    ]


def changes(runs: list[RecordedRun], name: str = "klp_a@6.1") -> list[Change]:
    (found,) = (each for each in trends(series_of(runs)) if each.id == name)
    return list(found.changes)


def test_what_began_to_fail() -> None:
    """The first failing run since the last good one is named, with what it found."""
    runs = nights({}, {}, {"klp_a": "failed"}, {"klp_a": "failed"})
    (change,) = changes(runs)
    assert (change.kind, change.since) == (ChangeKind.FAILS, "2026-11-03T02:00:00+00:00")
    assert change.detail == "passed -> failed [splat]: load: it splats"
    assert not changes(runs, "klp_b@6.1")


def test_what_passes_again_and_what_is_unsteady() -> None:
    """One turn is a change, three within ten runs are no change for the better."""
    mended = nights({"klp_a": "failed"}, {"klp_a": "failed"}, {})
    assert [each.kind for each in changes(mended)] == [ChangeKind.PASSES]
    long_ago = nights({"klp_a": "failed"}, {}, {}, {})
    assert not changes(long_ago)
    turning = nights({}, {"klp_a": "failed"}, {}, {"klp_a": "failed"}, {})
    (change,) = changes(turning)
    assert (change.kind, change.detail) == (
        ChangeKind.UNSTEADY,
        "2 of the latest 5 runs failed",
    )


def test_what_became_slower() -> None:
    """It took longer in two runs in a row, by the whole and by its checks; one run is chance."""
    slow = {"klp_a": 40.0}
    assert not changes(nights({}, {}, {}, {}, slow))
    whole, part = changes(nights({}, {}, {}, {}, slow, slow))
    assert (whole.kind, whole.part, whole.detail) == (
        ChangeKind.SLOWER,
        None,
        "20.0 s -> 40.0 s",
    )
    assert whole.since == "2026-11-05T02:00:00+00:00"
    assert (part.kind, part.part) == (ChangeKind.SLOWER, "transition")
    long = nights(*[{}] * 6, *[slow] * 12)
    assert {each.since for each in changes(long)} == {"2026-11-07T02:00:00+00:00"}
    failing = nights(*[{}] * 4, *[{"klp_a": "failed"}] * 2)
    assert [each.kind for each in changes(failing)] == [ChangeKind.FAILS]
    assert [c.kind for c in changes(nights({}, {}, {}, {"klp_a": 5.0}, {"klp_a": 5.0}))] == [
        ChangeKind.FASTER,
        ChangeKind.FASTER,
    ]


def test_a_busy_machine_is_no_trend() -> None:
    """Where everything took twice as long, no result became slower, and the run is named."""
    busy = {name.partition("@")[0]: 40.0 for name in NAMES}
    runs = nights({}, {}, {}, {}, busy, busy)
    assert not changes(runs)
    series = series_of(runs)
    assert slow_runs(series, paces(series)) == (
        "2026-11-05T02:00:00+00:00",
        "2026-11-06T02:00:00+00:00",
    )
    slower_still = {**busy, "klp_a": 80.0}
    assert changes(nights({}, {}, {}, {}, slower_still, slower_still))


def test_another_machine_is_not_compared() -> None:
    """Times under KVM say nothing about times under TCG."""
    runs = nights({}, {}, {}, {})
    quick = nights(*[{}] * 4, *[{"klp_a": 2.0}] * 2, accelerator="kvm")[4:]
    assert not changes([*runs, *quick])


def test_what_is_new_and_what_is_gone() -> None:
    """A patch that the latest run has no more, and one that only it has."""
    before, after = nights({}, {})
    without = [each for each in before.results if each.id != "klp_b@6.1"]
    less = [each for each in after.results if each.id != "klp_a@6.1"]
    runs = [
        before.model_copy(update={"results": tuple(without)}),
        after.model_copy(update={"results": tuple(less)}),
    ]
    assert [each.kind for each in changes(runs)] == [ChangeKind.GONE]
    assert [each.kind for each in changes(runs, "klp_b@6.1")] == [ChangeKind.NEW]


def added(folder: Path, *each: dict[str, Any]) -> list[Path]:
    paths = [
        add_to_history(folder, report(**given), at=f"2026-11-{number:02}T02:00:00+00:00")
        for number, given in enumerate(each, start=1)
    ]
    assert all(paths)
    return [path for path in paths if path is not None]


def test_files_are_written_once(tmp_path: Path) -> None:
    """A run has a file of its own, in the order of time; the same run is not added twice."""
    paths = added(tmp_path, {}, {"klp_a": 3.0})
    assert sorted(paths) == paths
    assert add_to_history(tmp_path, report(), at="2026-11-01T02:00:00+00:00") is None
    assert len(paths[0].read_text().splitlines()) == 1 + len(NAMES)
    runs, damaged = read_history(tmp_path)
    assert (len(runs), damaged) == (2, [])
    # A copy in another folder, as of a merge, counts once.
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / paths[0].name).write_bytes(paths[0].read_bytes())
    runs, _ = read_history(tmp_path)
    assert {len(each.points) for each in series_of(runs)} == {2}


def test_damaged_lines_are_named(tmp_path: Path) -> None:
    """A damaged line is left out and named; a file without its first line is left out."""
    first, second, third, fourth = added(tmp_path, {}, {}, {}, {})
    lines = first.read_text().splitlines(keepends=True)
    first.write_text("".join([lines[0], '{"id": 1\n', *lines[2:]]))
    second.write_text("<<<<<<< HEAD\n" + second.read_text())
    third.write_text(third.read_text()[:-30])
    fourth.write_bytes(b"\xff\xfe")
    runs, damaged = read_history(tmp_path)
    assert [len(each.results) for each in runs] == [3, 3]
    assert [line.partition(": ")[0] for line in damaged] == [
        f"{first.name}:2",
        f"{second.name}:1",
        f"{third.name}:5",
        f"{third.name}:5",
        f"{fourth.name}:1",
    ]
    ran = CliRunner().invoke(app, ["history", str(tmp_path)])
    assert ran.exit_code == 0
    assert "damaged, and left out" in ran.output


def test_a_later_version_may_write_more(tmp_path: Path) -> None:
    """Keys that this version does not know are no damage."""
    (path,) = added(tmp_path, {})
    lines = [json.loads(line) | {"later": 1} for line in path.read_text().splitlines()]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert read_history(tmp_path)[1] == []


def test_no_history(tmp_path: Path) -> None:
    """An empty folder, and one in which all is damaged, is wrong usage and says so."""
    with pytest.raises(UsageError, match="it has no file"):
        read_history(tmp_path)
    (tmp_path / "x.jsonl").write_text("")
    with pytest.raises(UsageError, match="all 1 files of it are damaged"):
        read_history(tmp_path)


def test_results_of_other_commands(tmp_path: Path) -> None:
    """--add takes what --json of any command wrote, verify of one kernel under a matrix's name."""
    check = {"id": "load", "module": "klp_a", "outcome": "failed", "seconds": 3, "detail": "no"}
    single = report() | {
        "command": "verify",
        "kernel": {"version": "6.1.192", "spec": "6.1"},
        "verdicts": [{"module": "klp_a", "outcome": "failed", "seconds": 9, "codes": ["splat"]}],
        "results": [check],
    }
    suite = report() | {
        "command": "test",
        "kernel": {"version": "6.1.192", "spec": "6.1"},
        "results": [{"id": "t::a", "outcome": "passed", "seconds": 1, "kernel": "6.1.192 (x)"}],
    }
    for name, text in {"a": json.dumps(single), "b": json.dumps(suite), "c": "[1]"}.items():
        (tmp_path / f"{name}.json").write_text(text)
    folder = str(tmp_path / "history")
    words = [f"--add={tmp_path / name}.json" for name in ("a", "b")]
    ran = CliRunner().invoke(app, ["history", folder, *words])
    assert ran.exit_code == 0, ran.output
    (one, _) = sorted(read_history(tmp_path / "history")[0], key=lambda each: each.run.command)[
        ::-1
    ]
    assert [(each.id, each.detail) for each in one.results] == [("klp_a@6.1", "load: no")]
    assert one.results[0].parts["load"][1] == 3
    ran = CliRunner().invoke(app, ["history", folder, f"--add={tmp_path / 'c'}.json"])
    assert ran.exit_code == 2
    assert "c.json has no results of klp-harness" in ran.output


def test_the_page() -> None:
    """It lists what changed, what is damaged, and has a cell for each result of each run."""
    runs = nights({}, {}, {"klp_a": "failed"})
    series = series_of(runs)
    page = history_page(
        series, trends(series), damaged=["x.jsonl:3: <no>"], slow_runs=slow_runs(series, {})
    )
    assert page.count('class="cell passed"') == 11
    assert page.count('class="cell failed"') == 1
    assert "x.jsonl:3: &lt;no&gt;" in page
    assert '<td class="fails">fails</td>' in page
    assert page.count("<polyline") == 4
