# SPDX-License-Identifier: GPL-2.0-only
"""Reproducers and the results of their trials in the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.report.terminal import printable

if TYPE_CHECKING:
    from harness.report.terminal import Terminal
    from harness.tools.race.results import RaceHit, RaceResult

_LINES = 12


def print_reproducer(terminal: Terminal, result: RaceResult) -> None:
    """Print one entry of the catalogue."""
    fixed = f", fixed by {result.fixed_by}" if result.fixed_by else ""
    terminal.print(f"{result.id}  ({result.rule}{fixed})")
    terminal.prose(f"    {result.title}", indent="    ")
    if result.known:
        terminal.prose(f"    known: {result.known}", indent="    ")


def print_hit(terminal: Terminal, name: str, hit: RaceHit) -> None:
    """Print what one trial showed, with the first lines of the splat."""
    terminal.print("")
    terminal.prose(f"{name}: {printable(hit.message)}", indent="  ")
    for line in hit.details[:_LINES]:
        terminal.print(f"    {printable(line)}")
    if len(hit.details) > _LINES:
        terminal.print(f"    ({len(hit.details) - _LINES} more lines)")
    if hit.bug is not None:
        terminal.print(f"  this is known: {hit.bug}")
    terminal.print(f"  after {hit.seconds:.1f} s; repeat it with --seed {hit.seed}")
    if hit.logs is not None:
        terminal.print(f"  logs: {hit.logs}")


def print_race(terminal: Terminal, result: RaceResult) -> None:
    """Print the result of one reproducer, in a line or two."""
    terminal.print("")
    terminal.prose(f"{result.id}: {_outcome(result)}", indent="  ")
    for hit in result.hits:
        if hit.steps is not None:
            what = hit.bug or "it"
            terminal.print(f"  shortest sequence that shows {what}:", f"    --steps '{hit.steps}'")
    if result.error is not None and not result.hits:
        for line in (result.error.message, *result.error.details[:_LINES]):
            terminal.print(f"  {printable(line)}")
        if result.error.logs is not None:
            terminal.print(f"  logs: {result.error.logs}")


def _outcome(result: RaceResult) -> str:
    trials = "1 trial" if result.trials == 1 else f"{result.trials} trials"
    rate = f"95 % confidence: {_percent(result.low)} to {_percent(result.high)} of trials"
    match result.outcome:
        case CheckOutcome.SHOWN:
            what = f"shown in {len(result.hits)} of {trials}"
            if result.trials > 1:
                what += f", first after {result.first_hit_s:.1f} s ({rate})"
            if result.expected:
                return f"{what}; expected: {result.known}"
            bugs = Counter(hit.bug for hit in result.hits if hit.bug is not None)
            if bugs:
                names = ", ".join(f"{name} {count}" for name, count in bugs.most_common())
                new = len(result.hits) - bugs.total()
                return f"{what}; known: {names}; new: {new or 'none'}"
            return f"{what}: this kernel breaks {result.rule}"
        case CheckOutcome.NOT_SHOWN:
            what = f"not shown in {trials}, {result.seconds:.1f} s"
            if result.trials > 1:
                what += f" ({rate})"
            return f"{what}, although expected: {result.known}" if result.expected else what
        case CheckOutcome.FAILED:
            return "the kernel failed in another way"
        case CheckOutcome.ERROR:
            return "the harness or the host failed; this is no result about the kernel"
        case CheckOutcome.NOT_APPLICABLE:
            return f"not applicable: {result.detail}"
        case _:
            return "not tried: the command ended before"


def _percent(rate: float) -> str:
    return f"{rate * 100:.0f} %"
