# SPDX-License-Identifier: GPL-2.0-only
"""race explore of small pairs, as a user types it: here, and on workers."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = ("unshadow-shadow", "unshadow-shalloc")
_S = 600.0


@pytest.mark.slow(60)
def test_workers_give_what_this_process_gives(tmp_path: Path) -> None:
    """The same points, tried once each; what they have kept is not tried again."""
    here = explored(tmp_path)
    assert [each["outcome"] for each in here] == ["not-shown"] * 2
    kept = tmp_path / "trials"
    there = explored(tmp_path, "--workers", "2", "--resume", str(kept))
    facts = ("id", "outcome", "points")
    assert [[each[name] for name in facts] for each in there] == [
        [each[name] for name in facts] for each in here
    ]
    for each in (*here, *there):
        assert each["tried"] + each["pruned"] + each["alike"] == each["points"]
    lines = kept.read_text().splitlines()
    assert len(lines) == sum(each["tried"] + each["pruned"] for each in there) + len(PAIRS)
    again = explored(tmp_path, "--workers", "1", "--resume", str(kept))
    assert [each["tried"] for each in again] == [each["tried"] for each in there]
    assert kept.read_text().splitlines() == lines


def explored(folder: Path, *options: str) -> list[dict[str, Any]]:
    """Return the results of a campaign that shows nothing."""
    file = folder / "explored.json"
    words = ["race", "explore", *PAIRS, "--json", str(file), *options]
    ended = run(
        [sys.executable, "-m", "harness.cli", *words], deadline=Deadline.after(_S), check=False
    )
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(file.read_text())["results"]
    return found
