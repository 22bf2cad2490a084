# SPDX-License-Identifier: GPL-2.0-only
"""``costs`` in the terminal: a line for each figure, and the tables at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from harness.observer.cost_results import CostKind
from harness.tools.costs.figures import TASK_LOCK
from harness.tools.costs.points import MUTEX, TASKLIST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.observer.cost_results import CostResult
    from harness.report.terminal import Terminal

_MILLION = 1_000_000
Found = dict[tuple[str, str], "CostResult"]


def instructions(value: float) -> str:
    """Return a number of instructions with about three digits: ``76``, ``4,330``, ``3.53 M``."""
    if value < _MILLION / 10:
        return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.1f}"
    millions = value / _MILLION
    digits = 2 if millions < 10 else 1 if millions < 100 else 0
    return f"{millions:,.{digits}f} M"


def print_found(terminal: Terminal, result: CostResult) -> None:
    """Print a figure as it comes."""
    terminal.print(f"{result.kernel:10} {result.what:55} {instructions(result.value):>10}")


def print_tables(terminal: Terminal, kernels: Sequence[str], results: Iterable[CostResult]) -> None:
    """Print calls and slopes of all kernels, and then the transitions of each."""
    every = list(results)
    rows = table_rows(kernels, every)
    if rows:
        table = Table("instructions", *kernels)
        _justify(table, 1)
        for what, cells in rows:
            table.add_row(what, *cells)
        terminal.print("", table)
    found: Found = {(each.figure, each.kernel): each for each in every}
    for kernel in kernels:
        for kind in (CostKind.PATCHING, CostKind.UNPATCHING):
            _print_transitions(terminal, kernel, kind, found)


def table_rows(
    kernels: Sequence[str], results: Iterable[CostResult]
) -> list[tuple[str, tuple[str, ...]]]:
    """Return calls and slopes: what each is, and its figures on the kernels."""
    found: dict[str, dict[str, CostResult]] = {}
    for each in results:
        if each.kind is CostKind.CALL or each.is_slope:
            found.setdefault(each.figure, {})[each.kernel] = each
    rows = []
    for there in found.values():
        what = next(iter(there.values())).what
        cells = (there.get(kernel) for kernel in kernels)
        rows.append((what, tuple(instructions(each.value) if each else "" for each in cells)))
    return rows


def _justify(table: Table, since: int) -> None:
    for column in table.columns[since:]:
        column.justify = "right"


def _print_transitions(terminal: Terminal, kernel: str, kind: CostKind, found: Found) -> None:
    rows = transitions_of(kernel, kind, found)
    if not rows:
        return
    table = Table(*HEADINGS)
    _justify(table, 0)
    for result in rows:
        table.add_row(*row_of(result))
    terminal.print("", f"{kernel}, {kind.value}: instructions, and locks at the longest", table)


HEADINGS = ("functions", "tasks", "all", "task lock", "tasklist_lock", "klp_mutex", "waits")
"""Of the columns of a table of transitions."""


def row_of(result: CostResult) -> tuple[str, ...]:
    """Return the cells of a transition."""
    held = {lock.name: lock for lock in result.locks}
    longest = [
        instructions(held[name].longest) if name in held else ""
        for name in (TASK_LOCK, TASKLIST, MUTEX)
    ]
    functions, tasks, waits = (
        "" if number is None else f"{number:,}"
        for number in (result.functions, result.tasks, result.waits)
    )
    return (functions, tasks, instructions(result.value), *longest, waits)


def transitions_of(
    kernel: str, kind: CostKind, found: Mapping[tuple[str, str], CostResult]
) -> list[CostResult]:
    """Return the transitions of a kernel in one direction that there are, by their sizes."""
    there = (each for each in found.values() if each.kernel == kernel and each.kind is kind)
    return sorted(there, key=lambda each: (each.functions or 0, each.tasks or 0))
