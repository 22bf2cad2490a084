# SPDX-License-Identifier: GPL-2.0-only
"""Prints what happened to one livepatch: its timeline, callbacks, kernel log."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.report.terminal import printable
from harness.report.timeline_text import can_draw, draw_timeline

if TYPE_CHECKING:
    from harness.report.base import ErrorFacts
    from harness.report.run_results import Phase, RunResult, TaskSwitch
    from harness.report.terminal import Terminal

_WIDTH = 80
_WIDEST = 160
_LOG_LINES = 40


def print_result(terminal: Terminal, result: RunResult) -> None:
    """Print all that was seen of one livepatch, readable at 80 columns and without colours."""
    terminal.print("")
    terminal.prose(f"{result.id}: {_patches(result)}", indent="  ")
    if result.targets:
        terminal.prose(f"loaded before it: {', '.join(result.targets)}", indent="  ")
    if result.absent:
        terminal.prose(f"not loaded, so not patched: {', '.join(result.absent)}", indent="  ")
    if result.phases:
        width = min(max(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH), _WIDEST)
        strokes = can_draw(terminal.encoding)
        terminal.print(
            "", *draw_timeline(result.tasks, result.marks, width=width, strokes=strokes), ""
        )
    for phase in result.phases:
        terminal.prose(_describe(phase), indent="  ")
    if result.callbacks:
        terminal.print("callbacks:")
    for callback in result.callbacks:
        state = "" if callback.state == "-" else f" ({callback.state})"
        terminal.print(f"  {callback.at_s:8.3f} s  {callback.phase:12} {callback.object}{state}")
    if result.log:
        terminal.print("kernel log:")
    if len(result.log) > _LOG_LINES:
        terminal.print(f"  ({len(result.log) - _LOG_LINES} lines before these)")
    for line in result.log[-_LOG_LINES:]:
        terminal.print(f"  {printable(line)}")
    if result.error is not None:
        _print_error(terminal, result.error)
    terminal.prose(f"{result.id}: {_ending(result)} ({result.seconds:.1f} s)", indent="  ")


def _print_error(terminal: Terminal, error: ErrorFacts) -> None:
    terminal.print("the kernel printed:" if error.details else "no details are known")
    for line in error.details[:_LOG_LINES]:
        terminal.print(f"  {printable(line)}")
    if error.hint is not None:
        terminal.prose(f"hint: {error.hint}", indent="  ")
    if error.logs is not None:
        terminal.print(f"logs: {error.logs}")


def _patches(result: RunResult) -> str:
    if not result.functions:
        return "its file names no function that it patches: it may have callbacks only"
    functions: dict[str, list[str]] = {}
    for name in result.functions:
        owner, _, function = name.partition(":")
        functions.setdefault(owner, []).append(f"{function}()")
    return "patches " + "; ".join(
        f"{', '.join(names)} of {owner}" for owner, names in functions.items()
    )


def _describe(phase: Phase) -> str:
    arrow = "0 -> 1" if phase.direction == "patching" else "1 -> 0"
    if phase.end_s is None:
        took = f"began at {phase.start_s:.2f} s and did not end"
    else:
        took = f"took {phase.end_s - phase.start_s:.2f} s"
    count = len(phase.switches)
    switched = f"{count} {'task' if count == 1 else 'tasks'} switched"
    last = max(phase.switches, key=lambda switch: switch.at_s, default=None)
    return f"{phase.direction} ({arrow}) {took}; {switched}{_last(phase, last)}"


def _last(phase: Phase, last: TaskSwitch | None) -> str:
    if last is None:
        return ""
    name = f"[{last.comm}]" if last.kthread else last.comm
    return f", last {name} ({last.tid}) after {last.at_s - phase.start_s:.2f} s"


def _ending(result: RunResult) -> str:
    if result.outcome is CheckOutcome.WARNED:
        return "loaded and unloaded; it is no livepatch, and there was no transition"
    if result.error is None:
        return f"{result.outcome.value}: loaded, disabled and unloaded"
    return f"{result.outcome.value}: {printable(result.error.message)}"
