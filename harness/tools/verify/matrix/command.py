# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness verify of several kernels, or of a manifest: one table of patches and kernels."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.cli.executors import check_travels, open_cluster
from harness.cli.history_files import add_to_history, history_folder
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.prepare import prepare_accel, prepare_kernel
from harness.errors import ExitCode, UsageError
from harness.report.base import CheckOutcome
from harness.tools.verify.matrix.cells import now
from harness.tools.verify.matrix.kept import CELLS, KeptCells, results_folder
from harness.tools.verify.matrix.pages import cell_page, page_name, table_page
from harness.tools.verify.matrix.run import Limits, MatrixRun
from harness.tools.verify.matrix.terminal import PlainProgress, print_cell, print_table
from harness.vm.guest import runs
from harness.vm.host.capacity import CLONE_MIB, TEMPLATE_MIB, measure_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harness.cli.executors import ExecutorOptions
    from harness.cli.options import AccelAsked, ResultFiles
    from harness.tools.verify.matrix.options import MatrixOptions
    from harness.tools.verify.matrix.plan import Column, MatrixPlan
    from harness.tools.verify.results import CellResult
    from harness.vm.cluster.client import Cluster
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

PAGE = "index.html"
# Two kernels at a time have cells that run, each with templates of one and of two CPUs.
_TEMPLATES = 4
# A cell has few scenes left at its end: the guests that it no longer needs are for the next cells.
_GUESTS_PER_JOB = 3


def run_matrix(
    plan: MatrixPlan,
    options: MatrixOptions,
    executors: ExecutorOptions,
    *,
    files: ResultFiles,
    accel: AccelAsked,
    html: Path | None,
) -> int:
    """Verify all cells of a plan, and return the exit code: the worst of theirs."""
    with Invocation("verify matrix", files) as invocation, ExitStack() as stack:
        check_writable(html)
        if options.rerun_failed and options.results is None:
            raise UsageError("--rerun-failed needs --results FOLDER, where the results are")
        if options.rerun_failed and options.anew:
            raise UsageError("--anew runs all cells, and --rerun-failed does not: give one of them")
        if not executors.is_here:
            for column in plan.columns:
                check_travels(column.options)
        place = history_folder(options.history) if options.history is not None else None
        started = now()
        folder = (
            results_folder(options.results)
            if options.results
            else runs.make_folder("verify-matrix")
        )
        kept = KeptCells(folder, plan)
        kept.open(started=started, rerun_failed=options.rerun_failed, anew=options.anew)
        choice = prepare_accel(invocation, accel)
        limits = limits_for(choice, options, cells=len(plan.cells))
        report = _Report(invocation, plan, kept, html, choice)
        stack.callback(report.close)
        if place is not None:
            invocation.at_end(lambda _: _add_to_history(invocation, place))
        # Before the kernels: a missing cluster is then reported at once.
        cluster = stack.enter_context(
            open_cluster(executors, invocation.terminal, guests=limits.jobs)
        )
        terminal = invocation.terminal
        terminal.print(
            f"{'patches':12} {len(plan.rows)}",
            f"{'kernels':12} {', '.join(column.name for column in plan.columns)}",
            f"{'accelerator':12} {choice.describe()}",
            f"{'results':12} {folder}",
        )
        if cluster is None:
            terminal.print(f"{'at a time':12} {limits.jobs} cells, {limits.guests} guests")
        if kept.kept:
            terminal.note(f"{len(kept.kept)} of {len(plan.cells)} cells are kept from {folder}")
        lines = PlainProgress(results_to_stderr=files.json == "-")

        def obtain(column: Column) -> Kernel:
            return prepare_kernel(invocation, column.options, terminal=lines)

        work = MatrixRun(plan, kept, choice=choice, limits=limits, obtain=obtain, terminal=lines)
        found = work.results() if cluster is None else _on_cluster(cluster, work, accel)
        for result in found:
            report.add(result)
        report.is_complete = True
        invocation.exit_code = exit_code(report.known.values())
    return invocation.exit_code


def _add_to_history(invocation: Invocation, folder: Path) -> None:
    if invocation.results:
        report = invocation.report().model_dump(mode="json")
        add_to_history(folder, report | {"partial": invocation.partial}, at=now())


def _on_cluster(cluster: Cluster, work: MatrixRun, accel: AccelAsked) -> Iterator[CellResult]:
    from harness.tools.verify.matrix.on_cluster import results_on

    return results_on(cluster, work.plan, work.kept, obtain=work.obtain, accel=accel.value)


def limits_for(choice: AccelChoice, options: MatrixOptions, *, cells: int) -> Limits:
    """Return how much runs at a time: what was asked for, or what cores and memory can take."""
    host = measure_host()
    most = (host.memory_available_mib - _TEMPLATES * TEMPLATE_MIB) // CLONE_MIB
    guests = options.guests or max(1, min(runs.guests_at_a_time(choice), most))
    jobs = options.jobs or math.ceil(guests / _GUESTS_PER_JOB)
    return Limits(jobs=max(1, min(jobs, guests, cells)), guests=guests)


def exit_code(results: Iterable[CellResult]) -> ExitCode:
    """Return the worst of the cells: 1 before 2 before 3 before 0.

    A verdict holds whatever else went wrong; what cannot be judged as it was asked for has to be
    changed by somebody, and what the host failed at may work the next time.
    """
    results = list(results)
    faults = {result.error.fault for result in results if result.error is not None}
    outcomes = {result.outcome for result in results}
    if CheckOutcome.FAILED in outcomes:
        return ExitCode.VERDICT
    if "usage" in faults:
        return ExitCode.USAGE
    return ExitCode.HARNESS if CheckOutcome.ERROR in outcomes else ExitCode.HELD


class _Report:
    """What the command writes: each cell when it ends, the table, and its pages."""

    def __init__(
        self,
        invocation: Invocation,
        plan: MatrixPlan,
        kept: KeptCells,
        html: Path | None,
        choice: AccelChoice,
    ) -> None:
        self.results: dict[tuple[str, str], CellResult] = {}
        self.is_complete = False
        self._invocation = invocation
        self._plan = plan
        self._kept = kept
        self._accelerator = choice.describe()
        folder = kept.folder
        # The table's page, and the folder of the cells' pages beside it.
        self._pages = [(folder / PAGE, CELLS)]
        if html is not None and html.absolute() != folder / PAGE:
            self._pages.append((html, f"{html.stem}-cells"))
        invocation.at_end(lambda _: self._finish())

    def add(self, result: CellResult) -> None:
        """Keep the result of a cell, print it, and write its page."""
        self._kept.keep(result)
        self.results[result.row, result.column] = result
        print_cell(self._invocation.terminal, result)
        self._write_cell(result)
        self._write_table(partial=True)

    def _finish(self) -> None:
        known = self.known
        for each in self._kept.kept.values():
            self._write_cell(each)
        print_table(self._invocation.terminal, self._plan, known)
        self._write_table(partial=not self.is_complete)
        in_order = [known.get((cell.row, cell.column)) for cell in self._plan.cells]
        self._invocation.results += [each for each in in_order if each is not None]
        self._invocation.more |= {
            "rows": self._plan.rows,
            "columns": tuple(column.name for column in self._plan.columns),
            "folder": str(self._kept.folder),
            "kept": tuple(self._kept.kept),
        }
        self._invocation.terminal.note(f"page         {self._pages[-1][0]}")

    @property
    def known(self) -> dict[tuple[str, str], CellResult]:
        """All results: those that were kept, and those of this run."""
        kept = {(each.row, each.column): each for each in self._kept.kept.values()}
        return kept | self.results

    def close(self) -> None:
        """Leave the folder to others."""
        self._kept.close(finished=self.is_complete)

    def _write_table(self, *, partial: bool) -> None:
        for page, cells in self._pages:
            text = table_page(
                self._plan, self.known, cells=cells, accelerator=self._accelerator, partial=partial
            )
            write_file(page, text)

    def _write_cell(self, result: CellResult) -> None:
        for page, cells in self._pages:
            folder = page.parent / cells
            folder.mkdir(exist_ok=True)
            text = cell_page(result, table=f"../{page.name}", accelerator=self._accelerator)
            write_file(folder / page_name(self._plan, result.id), text)
