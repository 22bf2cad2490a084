# SPDX-License-Identifier: GPL-2.0-only
"""Consistency models in the terminal: the list, a kernel's evidence, and the table of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.report.base import CheckOutcome
from harness.tools.models.results import Leave, Switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.models.catalogue import Model
    from harness.tools.models.results import ClassifyResult

_KERNEL = "The kernel as it works by itself"
_FORCED = "Tasks that were forced (1 written to `force`)"


def print_model(terminal: Terminal, model: Model) -> None:
    """Print a model of the catalogue."""
    terminal.print(Text(model.name, style="bold"))
    terminal.prose(f"    {model.does}", indent="    ")
    terminal.prose(f"    {model.systems}", indent="    ")
    series = " ".join(name for form in (model, *model.ports) for name in form.kernels)
    terminal.print(f"    {model.cell}" + (f", for {series}" if series else ""))
    terminal.prose(f"    cannot {model.cannot}", indent="    ")


def print_classified(terminal: Terminal, results: Sequence[ClassifyResult]) -> None:
    """Print the place of one kernel and of its forced tasks, with the evidence."""
    for result in results:
        terminal.print("")
        for line in result_lines(result):
            terminal.prose(line, indent="  ")


def result_lines(result: ClassifyResult) -> Iterator[str]:
    """Yield the lines of a result, which the terminal may wrap."""
    yield f"{_FORCED if result.forced else _KERNEL}: {place(result)}"
    for experiment in result.experiments:
        yield f"- {experiment.id}: {experiment.done}"
        yield f"  {experiment.seen} {experiment.means}"
    if result.never_ended is not None:
        yield f"- {result.never_ended}"
    if result.detail is not None:
        yield f"- not as it should be: {result.detail}"


def print_all(
    terminal: Terminal, models: Sequence[Model], results: Sequence[ClassifyResult]
) -> None:
    """Print what each model's place is known by, then the table LEAVE x SWITCH."""
    systems = {model.name: model.systems for model in models}
    order = {model.name: number for number, model in enumerate(models)}
    for result in sorted(results, key=lambda each: order.get(each.model or "", len(order))):
        if result.forced:
            continue
        terminal.print("")
        terminal.print(Text(f"{result.model}: {place(result)}", style=_style(result)))
        terminal.prose(f"  {systems.get(result.model or '', '')}", indent="  ")
        for experiment in result.experiments:
            terminal.prose(f"  {experiment.id:8} {experiment.seen}", indent=" " * 11)
        for text in (result.never_ended, result.detail):
            if text is not None:
                terminal.prose(f"  {text}", indent="  ")
    table = Table("", *Switch)
    for leave in Leave:
        cells = [_names(results, leave, switch) for switch in Switch]
        table.add_row(leave, *cells)
    terminal.print("", table)
    forced = {str(place(result)) for result in results if result.forced}
    if forced:
        terminal.print(f"forced tasks, in every model: {'; '.join(sorted(forced))}")


def place(result: ClassifyResult) -> str:
    """Return the place in the table that a result has, in words."""
    if result.leave is None or result.switch is None:
        return result.outcome.value
    return f"{result.leave}, {result.switch}"


def _names(results: Sequence[ClassifyResult], leave: Leave, switch: Switch) -> str:
    return "\n".join(
        result.model or result.id
        for result in results
        if (result.leave, result.switch) == (leave, switch) and not result.forced
    )


def _style(result: ClassifyResult) -> str:
    return "bold" if result.outcome is CheckOutcome.PASSED else "bold red"
