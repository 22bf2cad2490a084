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


class ConsoleReader:
    """Cuts a console's stream, split at any place, into lines."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[LogLine]:
        """Return the lines that this piece of the stream completes."""
        head, newline, rest = text.rpartition("\n")
        if not newline:
            self._rest += text
            return []
        whole, self._rest = self._rest + head, rest
        return [line for raw in whole.split("\n") for line in parse_line(raw)]

    def finish(self) -> list[LogLine]:
        """Return what the stream ended with, when that was no whole line."""
        rest, self._rest = self._rest, ""
        return parse_line(rest) if rest else []


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
