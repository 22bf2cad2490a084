# SPDX-License-Identifier: GPL-2.0-only
"""Runs the cells of a matrix on this machine: a few at a time, kernel after kernel.

All cells share one bound on guests. A kernel's cells share its guests' templates, which are there
as long as it has cells to run.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.cli.modules import ModuleFinder
from harness.errors import KlpError
from harness.report.base import CheckOutcome
from harness.threads import run_jobs
from harness.tools.verify.api import MOST_GUESTS
from harness.tools.verify.matrix.cells import judge_cell, left_out, not_judged
from harness.vm.guest import runs
from harness.vm.host.capacity import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.report.terminal import Terminal
    from harness.tools.verify.matrix.kept import KeptCells
    from harness.tools.verify.matrix.plan import Cell, Column, MatrixPlan
    from harness.tools.verify.results import CellResult
    from harness.tools.verify.verdict import Check
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

CPUS = 2
_DEBUG = "debug"
_DEBUG_SLOWER = 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many cells, and how many guests in all of them, run at a time."""

    jobs: int
    guests: int


@dataclass(frozen=True, kw_only=True)
class _Job:
    cell: Cell
    run: _KernelRun | None = None
    error: KlpError | None = None


class _KernelRun:
    """The guests of one kernel, until the last of its cells has ended."""

    def __init__(
        self,
        kernel: Kernel,
        column: Column,
        finder: ModuleFinder,
        choice: AccelChoice,
        limits: Limits,
        *,
        cells: int,
    ) -> None:
        self.kernel = kernel
        self.finder = finder
        self._left = cells
        self._lock = threading.Lock()
        self._keep_logs = False
        self._stack = contextlib.ExitStack()
        slower = _DEBUG_SLOWER if _DEBUG in column.options.fragments else 1
        self.session = self._stack.enter_context(
            runs.open_session(
                choice,
                cpus=CPUS,
                name=f"verify-{kernel.version}",
                guests=limits.guests * slower,
                keep=lambda: self._keep_logs,
            )
        )

    def end_cell(self, result: CellResult) -> None:
        """Note that a cell has ended; after the last one the session is closed."""
        with self._lock:
            self._left -= 1
            self._keep_logs |= result.outcome is not CheckOutcome.PASSED
            is_last = not self._left
        if is_last:
            self._stack.close()

    def end(self) -> None:
        """Close the session because of the exception that is being handled; logs are kept."""
        with contextlib.suppress(BaseException):
            self._stack.__exit__(*sys.exc_info())


class MatrixRun:
    """Yields the result of each cell that is not kept, as soon as it is known."""

    def __init__(
        self,
        plan: MatrixPlan,
        kept: KeptCells,
        *,
        choice: AccelChoice,
        limits: Limits,
        obtain: Callable[[Column], Kernel],
        terminal: Terminal,
    ) -> None:
        """``obtain`` returns the kernel of a column, ``terminal`` shows what is being built."""
        self.plan = plan
        self.kept = kept
        self._choice = choice
        self._limits = limits
        self.obtain = obtain
        self._terminal = terminal
        self._gate = threading.Semaphore(limits.guests)
        self._runs: list[_KernelRun] = []

    def results(self) -> Iterator[CellResult]:
        """Run the cells; raises KeyboardInterrupt, and what the host refuses beside the cells."""
        try:
            yield from run_jobs(
                self._jobs(), self._judge, at_a_time=self._limits.jobs, name="cells"
            )
        except BaseException:
            for each in self._runs:
                each.end()
            raise

    def _jobs(self) -> Iterator[_Job]:
        for column in self.plan.columns:
            cells = [cell for cell in self.plan.cells if cell.column == column.name]
            yield from (_Job(cell=cell) for cell in cells if cell.not_run is not None)
            cells = [cell for cell in cells if cell.not_run is None]
            if not cells:
                continue
            try:
                kernel = self.obtain(column)
                left = self.kept.missing(cells, kernel.digest)
                if not left:
                    continue
                finder = ModuleFinder(self._terminal, kernel)
                run = _KernelRun(
                    kernel, column, finder, self._choice, self._limits, cells=len(left)
                )
            except KlpError as error:
                left = self.kept.missing(cells, None)
                yield from (_Job(cell=cell, error=error) for cell in left)
                continue
            self._runs.append(run)
            yield from (_Job(cell=cell, run=run) for cell in left)

    def _judge(self, job: _Job) -> CellResult:
        if job.error is not None:
            return not_judged(job.cell, job.error)
        if job.run is None:
            return left_out(job.cell)

        def note(check: Check) -> None:
            if check.outcome is CheckOutcome.FAILED:
                self._terminal.note(f"{job.cell.id}: {check.id} failed [{check.code}]")

        result = judge_cell(
            job.cell,
            job.run.kernel,
            job.run.session,
            job.run.finder,
            terminal=self._terminal,
            guests=min(self._limits.guests, MOST_GUESTS),
            gate=self._gate,
            on_check=note,
        ).model_copy(
            update={"accelerator": self._choice.accel.value, "cpus": math.floor(usable_cores())}
        )
        job.run.end_cell(result)
        return result
