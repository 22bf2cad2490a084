# SPDX-License-Identifier: GPL-2.0-only
"""A story in the terminal: a line for each thing that was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.results import StoryLine

_MOST = 200


def print_story(terminal: Terminal, lines: Sequence[StoryLine]) -> None:
    """Print a story; of one that is very long the beginning and the end."""
    left_out = len(lines) - _MOST
    half = _MOST // 2
    shown = lines if left_out <= 0 else (*lines[:half], *lines[-half:])
    width = max((len(f"{line.at:,}") for line in shown), default=0)
    terminal.print("", "instructions since the first line, patch state, task:")
    for number, line in enumerate(shown):
        if left_out > 0 and number == half:
            terminal.print(f"... {left_out} lines are left out: --html FILE has all of them")
        terminal.print(Text(one_line(line, width), style="bold red" if line.marked else ""))


def one_line(line: StoryLine, width: int = 0) -> str:
    """Return a line of a story; ``width`` is that of its number."""
    state = " " if line.state is None else str(line.state)
    times = "" if line.times == 1 else f" ({line.times} times)"
    mark = "!" if line.marked else " "
    return f"{line.at:>{width},} {mark} {state} {line.task}: {line.text}{times}"
