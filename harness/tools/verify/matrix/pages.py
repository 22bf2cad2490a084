# SPDX-License-Identifier: GPL-2.0-only
"""A matrix as HTML: a page with the table, and behind each cell a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.html import render
from harness.tools.verify.matrix.terminal import MISSING, NOT_FOR, counts_of
from harness.tools.verify.page import verify_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.tools.verify.matrix.plan import MatrixPlan
    from harness.tools.verify.results import CellResult


def table_page(
    plan: MatrixPlan,
    results: Mapping[tuple[str, str], CellResult],
    *,
    cells: str,
    accelerator: str,
    partial: bool = False,
) -> str:
    """Return the page with the table; ``cells`` is the folder of the cells' pages beside it."""
    pages = {(cell.row, cell.column): f"{cells}/{page_name(plan, cell.id)}" for cell in plan.cells}
    kernels = {
        column.name: next(
            (
                found.kernel
                for row in plan.rows
                if (found := results.get((row, column.name))) is not None and found.kernel
            ),
            None,
        )
        for column in plan.columns
    }
    return render(
        "table_page.html.j2",
        str(__package__),
        plan=plan,
        results=results,
        pages=pages,
        kernels=kernels,
        accelerator=accelerator,
        counts=counts_of(list(results.values()), len(plan.cells)),
        not_for=NOT_FOR,
        missing=MISSING,
        partial=partial,
    )


def cell_page(result: CellResult, *, table: str, accelerator: str) -> str:
    """Return the page of a cell, which leads back to ``table``, a relative link."""
    kernel = result.kernel
    return verify_page(
        result.verdicts,
        result.checks,
        result.runs,
        kernel=f"{kernel.version} ({kernel.source})" if kernel is not None else result.column,
        accelerator=accelerator,
        above=(result.id, table),
        outcome=(result.outcome.value, result.detail),
        error=result.error,
    )


def page_name(plan: MatrixPlan, cell: str) -> str:
    """Return the file name of a cell's page."""
    return next(f"{each.file}.html" for each in plan.cells if each.id == cell)
