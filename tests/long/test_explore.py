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
    from collections.abc import Sequence
    from pathlib import Path

PAIRS = ("unshadow-shadow", "unshadow-shalloc")
_S, _BUILD_S = 600.0, 3600.0


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


@pytest.mark.slow(600)
def test_a_data_race_is_shown_by_holding_an_access_that_kcsan_watches(tmp_path: Path) -> None:
    """func->transition is written by a disable, and read by the handler, both without a mark."""
    words = ("--kernel-config", "kcsan", "--dense")
    (result,) = explored(tmp_path, *words, pairs=["call-disable"], shows=True)
    (finding,) = result["findings"]
    assert "KCSAN: data-race in klp_ftrace_handler / klp_init_transition" in finding["message"]
    assert (finding["shown"], finding["tries"]) == (4, 4)
    assert finding["at"].startswith("klp_ftrace_handler+0x")
    assert finding["at"].endswith("@watched")


def explored(
    folder: Path, *options: str, pairs: Sequence[str] = PAIRS, shows: bool = False
) -> list[dict[str, Any]]:
    """Return the results of a campaign that shows something or not."""
    file = folder / "explored.json"
    words = ["race", "explore", *pairs, "--json", str(file), *options]
    seconds = _BUILD_S if "--kernel-config" in options else _S
    ended = run(
        [sys.executable, "-m", "harness.cli", *words], deadline=Deadline.after(seconds), check=False
    )
    assert ended.returncode == int(shows), ended.stderr
    found: list[dict[str, Any]] = json.loads(file.read_text())["results"]
    return found
