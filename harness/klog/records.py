# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log's lines, from the console's text or from /dev/kmsg's records. Pure.

On the console each line of a record has a prefix of its own (kernel/printk/printk.c,
info_print_prefix()): the time since boot, and with CONFIG_PRINTK_CALLER who printed it. User
programs may write to the same console, and a kernel line may begin in the middle of theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.agent_protocol import KlogRecord

# "[    1.234567] ", "[    1.234567][    T1] ", "<6>[    1.234567] "
_PREFIX = re.compile(
    r"(?:<\d{1,3}>)?\[ *(?P<s>\d{1,12})\.(?P<us>\d{6})\](?:\[ *(?P<caller>[TC]\d+)\])? ?"
)


MOST_CHARS = 1 << 16
"""Longer than any line of the kernel's, whose records have at most 2 KiB or so."""

# What the console gets in place of records that were overwritten before they could be printed
# (kernel/printk/printk.c, console_prepend_dropped() and before 6.4 console_emit_next_record()).
_DROPPED = re.compile(r"\*\* (?P<count>\d+) printk messages dropped \*\*")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """One line. ``us`` is the time since boot in microseconds, None for text without a prefix.

    ``caller`` is T and a thread id or C and a CPU number, where the kernel prints it.
    """

    text: str
    us: int | None = None
    caller: str | None = None

    @property
    def from_kernel(self) -> bool:
        """Whether the line has the kernel's prefix."""
        return self.us is not None

    @property
    def dropped(self) -> int:
        """How many records the kernel says here that it did not print; it has no prefix then."""
        match = None if self.from_kernel else _DROPPED.search(self.text)
        return int(match["count"]) if match else 0


class ConsoleReader:
    """Cuts a console's stream, split at any place, into lines.

    What a program prints without a line end is cut into lines of `MOST_CHARS`: it may be without
    end, and a kernel line may follow it.
    """

    def __init__(self) -> None:
        self._rest: list[str] = []
        self._rest_size = 0

    def feed(self, text: str) -> list[LogLine]:
        """Return the lines that this piece of the stream completes."""
        head, newline, rest = text.rpartition("\n")
        lines: list[LogLine] = []
        if newline:
            whole = "".join([*self._rest, head])
            lines = [line for raw in whole.split("\n") for line in _cut(raw)]
            self._rest, self._rest_size = [], 0
        self._rest.append(rest)
        self._rest_size += len(rest)
        while self._rest_size > MOST_CHARS:
            whole = "".join(self._rest)
            lines += parse_line(whole[:MOST_CHARS])
            self._rest, self._rest_size = [whole[MOST_CHARS:]], self._rest_size - MOST_CHARS
        return lines

    def finish(self) -> list[LogLine]:
        """Return what the stream ended with, when that was no whole line."""
        rest = "".join(self._rest)
        self._rest, self._rest_size = [], 0
        return _cut(rest) if rest else []


def _cut(raw: str) -> list[LogLine]:
    if len(raw) <= MOST_CHARS:
        return parse_line(raw)
    pieces = [raw[start : start + MOST_CHARS] for start in range(0, len(raw), MOST_CHARS)]
    return [line for piece in pieces for line in parse_line(piece)]


def parse_line(raw: str) -> list[LogLine]:
    """Return one line of a console: two when a kernel line begins within a user program's."""
    raw = raw.replace("\r", "")
    match = _PREFIX.search(raw)
    if match is None:
        return [LogLine(text=raw)]
    line = LogLine(
        text=raw[match.end() :],
        us=int(match["s"]) * 1_000_000 + int(match["us"]),
        caller=match["caller"],
    )
    return [line] if match.start() == 0 else [LogLine(text=raw[: match.start()]), line]


def parse_console(text: str) -> list[LogLine]:
    """Return the lines of a recorded console."""
    reader = ConsoleReader()
    return reader.feed(text) + reader.finish()


def from_records(records: Iterable[KlogRecord]) -> list[LogLine]:
    """Return the lines of /dev/kmsg's records: a record may have several."""
    return [
        LogLine(text=text, us=record.us)
        for record in records
        for text in record.text.removesuffix("\n").split("\n")
    ]
