# SPDX-License-Identifier: GPL-2.0-only
"""Recorded kernel logs: each file of data/klog names on top the splats to be found in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent_protocol import KlogRecord
from harness.klog.policy import default_policy
from harness.klog.records import parse_console
from harness.klog.splats import Splat, SplatDetector, find_splats, find_splats_in_records

if TYPE_CHECKING:
    from collections.abc import Iterable

CASES = sorted((Path(__file__).parent / "data" / "klog").glob("*.log"))
NO_SPLAT = "no splat"
DROPPED = "dropped "


def read_case(path: Path) -> tuple[list[str], str]:
    """Return the expected splats and the log of one file."""
    head, _, log = path.read_text(encoding="utf-8").partition("\n\n")
    expected = [line.removeprefix("# ") for line in head.splitlines()[1:-1]]
    assert head.startswith("# SPDX-License-Identifier: "), path
    plain = [line for line in expected if not line.startswith(DROPPED)]
    return [line for line in plain if line != NO_SPLAT], log


def read_dropped(path: Path) -> int:
    """Return how many messages the kernel says in a log that it dropped."""
    head = path.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    return sum(int(line.removeprefix(f"# {DROPPED}")) for line in head if f"# {DROPPED}" in line)


def told(splats: Iterable[Splat]) -> list[str]:
    return [f"{splat.category}: {splat.title}" for splat in splats]


def seen(splats: Iterable[Splat]) -> list[tuple[str, str, str, int | None]]:
    return [(splat.title, splat.first_line, splat.text, splat.us) for splat in splats]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recorded_log(path: Path) -> None:
    """The splats of a recorded log are found, with the titles that its file has on top."""
    expected, log = read_case(path)
    assert told(find_splats(log)) == expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recorded_log_by_records(path: Path) -> None:
    """The records of /dev/kmsg, which have no prefix, tell the same as the console."""
    expected, log = read_case(path)
    lines = parse_console(log)
    stamped = any(line.from_kernel for line in lines)
    records = [
        KlogRecord(seq=number, us=line.us or 0, level=6, text=line.text)
        for number, line in enumerate(lines)
        if line.from_kernel or not stamped
    ]
    assert told(find_splats_in_records(records)) == expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_byte_by_byte(path: Path) -> None:
    """A console that comes one character at a time gives the same splats with the same text."""
    _, log = read_case(path)
    detector = SplatDetector()
    found = [splat for char in log for splat in detector.feed(char)] + detector.finish()
    assert seen(found) == seen(find_splats(log))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_split_gives_the_same(data: st.DataObject) -> None:
    """Where the stream is cut makes no difference."""
    _, log = read_case(data.draw(st.sampled_from(CASES)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=30)))
    detector = SplatDetector()
    found: list[Splat] = []
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        found += detector.feed(log[start:end])
    assert seen(found + detector.finish()) == seen(find_splats(log))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_dropped_messages_are_counted(path: Path) -> None:
    """The kernel's own notice counts, wherever the stream is cut; what quotes it does not."""
    _, log = read_case(path)
    for size in (1, 7, len(log)):
        detector = SplatDetector()
        for start in range(0, len(log), size):
            detector.feed(log[start : start + size])
        detector.finish()
        assert detector.dropped == read_dropped(path)


def test_there_are_cases_of_every_rule() -> None:
    """Each rule finds a splat in a recorded log, and there are logs in which none may find one."""
    found = {splat.rule for path in CASES for splat in find_splats(read_case(path)[1])}
    assert not {rule.id for rule in default_policy().rules} - found
    clean = [path for path in CASES if path.stem.startswith("none-")]
    assert sum("# Recorded: " in path.read_text() for path in clean) >= 30
