# SPDX-License-Identifier: GPL-2.0-only
"""Lines of the kernel log, from the console and from /dev/kmsg."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent_protocol import KlogRecord
from harness.klog.records import ConsoleReader, LogLine, from_records, parse_console, parse_line


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("[    1.234567] hello", [LogLine(text="hello", us=1_234_567)]),
        ("[12345.000001] late", [LogLine(text="late", us=12_345_000_001)]),
        ("[123456.000001] later", [LogLine(text="later", us=123_456_000_001)]),
        ("[    0.000000][    T0] x", [LogLine(text="x", us=0, caller="T0")]),
        ("[    1.234567][T12345] x", [LogLine(text="x", us=1_234_567, caller="T12345")]),
        ("[    1.234567][    C1] x", [LogLine(text="x", us=1_234_567, caller="C1")]),
        ("<6>[    1.234567] x", [LogLine(text="x", us=1_234_567)]),
        ("[    1.234567]  <TASK>", [LogLine(text=" <TASK>", us=1_234_567)]),
        ("[    1.234567] ", [LogLine(text="", us=1_234_567)]),
        ("[    1.234567]", [LogLine(text="", us=1_234_567)]),
        ("[    1.234567] x\r", [LogLine(text="x", us=1_234_567)]),
        ("a program's", [LogLine(text="a program's")]),
        ("[ 1 ] no time", [LogLine(text="[ 1 ] no time")]),
        ("[<0>] f+0x1/0x2", [LogLine(text="[<0>] f+0x1/0x2")]),
        (
            "50% [    1.234567] x",
            [LogLine(text="50% "), LogLine(text="x", us=1_234_567)],
        ),
        (
            "[    1.234567] quotes [    0.000001] y",
            [LogLine(text="quotes [    0.000001] y", us=1_234_567)],
        ),
    ],
)
def test_line(raw: str, expected: list[LogLine]) -> None:
    """A line is cut into time, caller and text; a program's stands apart from the kernel's."""
    assert parse_line(raw) == expected


def test_a_line_is_returned_when_it_is_whole() -> None:
    """The reader waits for a line's end, and finish() gives what had none."""
    reader = ConsoleReader()
    assert reader.feed("[    1.000000] one\n[    2.0") == [LogLine(text="one", us=1_000_000)]
    assert reader.feed("00000] tw") == []
    assert reader.finish() == [LogLine(text="tw", us=2_000_000)]
    assert reader.finish() == []


@given(st.text(alphabet="a[]<> 0.123T\r\n", max_size=200), st.integers(0, 200))
def test_a_cut_changes_nothing(text: str, at: int) -> None:
    """A stream in two pieces gives the lines of the whole."""
    reader = ConsoleReader()
    lines = reader.feed(text[:at]) + reader.feed(text[at:]) + reader.finish()
    assert lines == parse_console(text)


def test_records_of_several_lines() -> None:
    """A record with line ends gives one line for each, all of its time."""
    records = [
        KlogRecord(seq=7, us=5, level=4, text="two\nlines\n"),
        KlogRecord(seq=8, us=6, level=6, text="one"),
    ]
    assert from_records(records) == [
        LogLine(text="two", us=5),
        LogLine(text="lines", us=5),
        LogLine(text="one", us=6),
    ]
