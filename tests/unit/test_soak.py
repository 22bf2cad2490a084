# SPDX-License-Identifier: GPL-2.0-only
"""A soak judges what its parts and samples say, and goes on where an interrupted one ended."""

from __future__ import annotations

import io
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.commands_here import Ended, Place
from benchmarks.soak import _parts, _read, _verdict, trends
from benchmarks.soak_parts import PARTS, _unexpected
from benchmarks.soak_samples import FIGURES, sample
from harness.errors import ExitCode, UsageError
from harness.report.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path


def record(value: float, *, process: int = 1, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the record of a part with one sample, in which each figure has that value."""
    return {
        "part": "run",
        "turn": 1,
        "did": "it",
        "seconds": 1.0,
        "at": "12:00:00",
        "process": process,
        "problems": list(problems),
        "samples": [{figure.name: value for figure in FIGURES}],
    }


class Shared:
    """What parts share, without guests."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.samples: list[dict[str, float]] = []


@pytest.mark.parametrize(
    ("records", "code", "words"),
    [
        ([record(10)] * 20, ExitCode.HELD, "0 unexpected results, growing: nothing"),
        ([record(10 * turn) for turn in range(20)], ExitCode.VERDICT, "growing: descriptors"),
        ([record(10), record(10, problems=("odd",))], ExitCode.VERDICT, "1 unexpected results"),
    ],
)
def test_verdict(tmp_path: Path, records: list[Any], code: ExitCode, words: str) -> None:
    """Growth and any unexpected result are exit code 1; what commands left then stays."""
    out = io.StringIO()
    place = Place(tmp_path / "place")
    assert _verdict(Terminal(stdout=out), records, place) == code
    assert words in out.getvalue()
    assert place.folder.exists() is (code is ExitCode.VERDICT)


def test_what_one_process_uses_is_not_mixed_with_another() -> None:
    """After --resume another process has other descriptors, and that is no growth of either."""
    records = [*[record(1, process=1)] * 20, *[record(500, process=2)] * 20]
    grown = {trend.name for trend in trends(records) if trend.grows}
    assert grown
    assert grown.isdisjoint(figure.name for figure in FIGURES if figure.of_process)


def test_a_record_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """A soak that was killed while it wrote goes on; a damaged line in the middle is refused."""
    file = tmp_path / "soak.jsonl"
    file.write_text(json.dumps(record(1)) + "\n" + json.dumps(record(2))[:40])
    assert len(_read(file)) == 1
    file.write_text("odd\n" + json.dumps(record(1)) + "\n")
    with pytest.raises(UsageError, match=r"soak\.jsonl:1 is no record"):
        _read(file)
    with pytest.raises(UsageError, match="cannot be read"):
        _read(tmp_path / "none")


def test_parts_go_on_where_they_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts come in turns, the earlier ones count, and their seconds do too."""
    seen: list[tuple[str, int]] = []

    def part(name: str) -> Any:
        def do(_soak: Any, _chance: random.Random, turn: int) -> tuple[list[str], str]:
            seen.append((name, turn))
            return [], name

        return do

    monkeypatch.setattr("benchmarks.soak.PARTS", {name: part(name) for name in "abc"})
    monkeypatch.setattr("benchmarks.soak.sample", lambda _place: {})
    state: Any = Shared(Place(tmp_path))
    made = _parts(state, "abc", 1, 1000, [record(1)] * 2)
    assert [next(made)["part"] for _ in range(3)] == ["c", "a", "b"]
    assert seen == [("c", 1), ("a", 2), ("b", 2)]
    assert list(_parts(state, "abc", 1, 2, [record(1)] * 2)) == []


def test_a_command_that_is_not_as_expected() -> None:
    """Another exit code, or a traceback with the right one."""
    fine = Ended(words=("run",), code=0, output="passed\n", seconds=1)
    assert _unexpected(fine) == []
    (problem,) = _unexpected(Ended(words=("run",), code=3, output="error: x\n", seconds=1))
    assert "`klp-harness run`: exit code 3 instead of 0" in problem
    text = "Traceback (most recent call last):\n  x\n"
    assert "traceback" in _unexpected(Ended(words=("run",), code=0, output=text, seconds=1))[0]


def test_each_figure_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample has all figures, and sees a file of a run and an entry of the cache."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(cache))
    place = Place(tmp_path / "place")
    before = sample(place)
    assert before.keys() == {figure.name for figure in FIGURES}
    folder = place.runs / "20260101-000000-run-1"
    folder.mkdir()
    (folder / "initrd").write_bytes(b"x" * (1 << 20))
    (cache / "module" / "key").mkdir(parents=True)
    after = sample(place)
    assert after["run-folders"] == before["run-folders"] + 1
    assert after["runs"] == before["runs"] + 1
    assert after["entries"] == before["entries"] + 1
    assert set(PARTS) >= {"run", "suite", "restores", "signals", "races", "verify", "together"}
