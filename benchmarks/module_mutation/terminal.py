# SPDX-License-Identifier: GPL-2.0-only
"""Module mutants in the terminal: the change, and the checks that failed or warned."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from harness.report.base import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.module_mutation.results import ModuleMutantResult, Notice
    from harness.report.terminal import Terminal

_STYLES = {
    CheckOutcome.CAUGHT: "green",
    CheckOutcome.WARNED: "yellow",
    CheckOutcome.SURVIVED: "bold red",
    CheckOutcome.ERROR: "bold magenta",
}
_OUTCOME_WIDTH = 13
_NOTICES = 3


def print_module_mutant(terminal: Terminal, result: ModuleMutantResult) -> None:
    """Print the outcome of a mutant or, in a list, the mutant."""
    line = Text(f"{result.outcome.value:{_OUTCOME_WIDTH}} ", style=_STYLES.get(result.outcome, ""))
    line.append(result.id, style="bold")
    if result.outcome is not CheckOutcome.NOT_RUN:
        line.append(f"  {result.seconds:.0f} s")
    terminal.print(line)
    terminal.prose(f"    {result.change}", indent="    ")
    notices = (*result.caught_by, *result.warned_by)
    for notice in notices[:_NOTICES]:
        terminal.prose(f"    {_line(notice)}", indent="        ")
    if len(notices) > _NOTICES:
        terminal.print(f"    and {len(notices) - _NOTICES} more")
    if result.by_script:
        terminal.print("    only the check script failed")
    if result.outcome is CheckOutcome.SURVIVED and result.equivalent:
        terminal.prose(f"    no check can notice it: {result.equivalent}", indent="    ")
    if result.detail:
        terminal.prose(f"    {result.detail}", indent="    ")


def print_inapplicable(terminal: Terminal, results: Iterable[ModuleMutantResult]) -> None:
    """Print the kinds without a mutant of each module."""
    for module, group in groupby(results, key=lambda result: result.module):
        kinds = ", ".join(result.kind for result in group)
        terminal.prose(f"{module} has no mutant of {kinds}", indent="    ")


def print_module_summary(terminal: Terminal, results: Sequence[ModuleMutantResult]) -> None:
    """Print the outcomes of each kind, then of all."""
    terminal.print("")
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        said = ", ".join(_counts(own))
        scripted = sum(result.by_script for result in own)
        more = f"; {scripted} by the check script only" if scripted else ""
        terminal.print(f"  {kind:20} {said}{more}")
    what = "mutant" if len(results) == 1 else "mutants"
    terminal.print("", f"{len(results)} {what}: {', '.join(_counts(results))}")


def _counts(results: Sequence[ModuleMutantResult]) -> list[str]:
    counts = Counter(result.outcome.value for result in results)
    return [f"{count} {outcome}" for outcome, count in counts.most_common()]


def _line(notice: Notice) -> str:
    return f"{notice.check} [{notice.code}] {notice.detail}"
