# SPDX-License-Identifier: GPL-2.0-only
"""Findings and counts of ``klp-harness race explore`` in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.report.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.explore.results import ExploreCall, ExploreFinding, ExploreResult

_LINES = 8
_MOST_CALLS = 40
_COLUMN = 36


def print_finding(terminal: Terminal, result: ExploreResult, finding: ExploreFinding) -> None:
    """Print an interleaving, with what A and B call before and while A is held."""
    terminal.print("")
    terminal.prose(f"{result.id} at '{finding.at}': {printable(finding.message)}", indent="  ")
    terminal.print(f"  {how_often(finding)}")
    if finding.b is not None:
        terminal.print(f"  while A was held, B was {finding.b}")
    for line in finding.details[:_LINES]:
        terminal.print(f"    {printable(line)}")
    if finding.calls:
        _print_calls(terminal, finding.calls, finding.calls_before)
    for line in finding.allowed:
        terminal.prose(f"  an order gives: {printable(line)}", indent="    ")
    if finding.bug is not None:
        terminal.print(f"  this is known: {finding.bug}")
    terminal.print(f"  again: {finding.again}")


def how_often(finding: ExploreFinding) -> str:
    """Return in words in how many trials it was shown."""
    rare = "" if finding.shown == finding.tries else ": it is rare"
    return f"shown in {finding.shown} of {finding.tries}{rare}"


def print_pair(terminal: Terminal, result: ExploreResult) -> None:
    """Print the counts of a pair in a line, and one for each of its findings."""
    terminal.print(f"{result.id}: {_outcome(result)}")
    for finding in result.findings:
        points = f", and at {len(finding.points) - 1} more points" if finding.points[1:] else ""
        known = f"; known: {finding.bug}" if finding.bug is not None else ""
        text = f"at '{finding.at}'{points}: {printable(finding.message)}, {how_often(finding)}"
        terminal.prose(f"  {text}{known}", indent="    ")


def print_total(terminal: Terminal, results: Sequence[ExploreResult], seconds: float) -> None:
    """Print what was covered: points and pairs tried, not reached, and those in which B waited."""
    points = sum(each.points for each in results)
    tried = sum(each.tried for each in results)
    not_reached = sum(each.not_reached for each in results)
    blocked = sum(each.blocked for each in results)
    pruned = sum(each.pruned for each in results)
    alike = sum(each.alike for each in results)
    begun = sum(bool(each.tried) for each in results)
    rate = f", {tried * 60 / seconds:.0f} a minute" if seconds and tried else ""
    terminal.print("")
    terminal.prose(
        f"{tried} of {points} interleavings of {begun} of {len(results)} pairs tried{rate}: "
        f"{not_reached} points were not reached, and in {blocked} B was blocked until A went on; "
        f"left out were {pruned} in which B would wait for the same lock, and {alike} before which "
        "A had touched nothing that B touches"
    )


def _outcome(result: ExploreResult) -> str:
    counts = f"{result.tried} of {result.points} points"
    if result.not_reached:
        counts += f", {result.not_reached} not reached"
    if result.blocked:
        counts += f", B blocked at {result.blocked}"
    if result.pruned:
        counts += f" and still at {result.pruned} left out"
    if result.alike:
        counts += f", {result.alike} left out as alike"
    if result.unsteady:
        counts += f", {result.unsteady} not shown again"
    if result.failed:
        counts += f", {result.failed} ended by the host"
    match result.outcome:
        case CheckOutcome.SHOWN:
            many = "1 finding" if len(result.findings) == 1 else f"{len(result.findings)} findings"
            return f"{many} ({counts})"
        case CheckOutcome.NOT_SHOWN:
            return f"nothing shown ({counts})"
        case CheckOutcome.ERROR:
            message = result.error.message if result.error is not None else "no trial has a result"
            return printable(message)
        case CheckOutcome.NOT_APPLICABLE:
            return f"not applicable: {result.detail}"
        case _:
            return f"not tried: {result.detail or 'the command ended before'}"


def _print_calls(terminal: Terminal, calls: Sequence[ExploreCall], before: int) -> None:
    terminal.print(f"    {'A, CPU 0':{_COLUMN}}B, CPU 1")
    own = [(number, call) for number, call in enumerate(calls) if call.by != "other"]
    start = max(0, sum(number < before for number, _ in own) - _MOST_CALLS // 3)
    was_held = False
    for number, call in own[start : start + _MOST_CALLS]:
        if number >= before and not was_held:
            terminal.print(f"    {'(held)':-<{_COLUMN}}")
            was_held = True
        place = f"{call.function:{_COLUMN}}" if call.by == "A" else " " * _COLUMN + call.function
        terminal.print(f"    {place.rstrip()}")
