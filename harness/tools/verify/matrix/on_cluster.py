# SPDX-License-Identifier: GPL-2.0-only
"""Cells on a cluster: each worker verifies a patch in guests of its own.

The files of a cell travel with it. A worker obtains the kernel from its spec, as this machine does,
and both have to get the same digest.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.modules import ModuleFinder
from harness.cli.same_kernel import obtain_same
from harness.errors import KlpError
from harness.report.base import CheckOutcome
from harness.threads import run_jobs
from harness.tools.verify.api import MOST_GUESTS
from harness.tools.verify.matrix.cells import judge_cell, left_out, not_judged
from harness.tools.verify.matrix.terminal import PlainProgress
from harness.vm.cluster.client import most_on_one_host
from harness.vm.guest import runs
from harness.vm.kernel.module import source_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.tools.verify.matrix.kept import KeptCells
    from harness.tools.verify.matrix.plan import Cell, Column, MatrixPlan
    from harness.tools.verify.results import CellResult
    from harness.vm.cluster.client import Cluster
    from harness.vm.kernel.build import KernelRequest
    from harness.vm.kernel.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class CellOrder:
    """A cell with its files by name, and its kernel: the request, and the digest it has to have.

    ``at_a_time`` is how many cells one machine verifies at a time.
    """

    cell: Cell
    files: Mapping[str, bytes]
    request: KernelRequest
    digest: str
    accel: str
    at_a_time: int


def results_on(
    cluster: Cluster,
    plan: MatrixPlan,
    kept: KeptCells,
    *,
    obtain: Callable[[Column], Kernel],
    accel: str,
) -> Iterator[CellResult]:
    """Yield the result of each cell that is not kept; raises what `Cluster.call` does.

    When the caller stops, the workers finish what they have begun; nobody waits for it.
    """
    threads = cluster.threads()

    def jobs() -> Iterator[tuple[Cell, Column, Kernel | KlpError | None]]:
        for column in plan.columns:
            cells = [cell for cell in plan.cells if cell.column == column.name]
            kernel: Kernel | KlpError | None = None
            if any(cell.not_run is None for cell in cells):
                try:
                    kernel = obtain(column)
                except KlpError as error:
                    kernel = error
            digest = None if kernel is None or isinstance(kernel, KlpError) else kernel.digest
            yield from ((cell, column, kernel) for cell in kept.missing(cells, digest))

    def judge(job: tuple[Cell, Column, Kernel | KlpError | None]) -> CellResult:
        cell, column, kernel = job
        if cell.not_run is not None or kernel is None:
            return left_out(cell)
        if isinstance(kernel, KlpError):
            return not_judged(cell, kernel)
        order = _order(cell, column, kernel.digest, accel, most_on_one_host(threads))
        found: CellResult = cluster.call(judge_order, order, {}).result
        return found

    return run_jobs(jobs(), judge, at_a_time=max(1, sum(threads.values())), name="cells")


def judge_order(order: CellOrder) -> CellResult:
    """Verify a cell on this machine; what its kernel lacks here is its result."""
    folder = runs.make_folder("verify-cell")
    cell = _unpacked(order, folder)
    terminal = PlainProgress(results_to_stderr=True)
    try:
        kernel = obtain_same(order.request, order.digest)
        choice = runs.accelerator(order.accel)
        guests = max(1, min(MOST_GUESTS, runs.guests_at_a_time(choice) // order.at_a_time))
        results: list[CellResult] = []
        with runs.open_session(
            choice,
            name="verify",
            guests=guests * order.at_a_time,
            keep=lambda: bool(results) and results[0].outcome is not CheckOutcome.PASSED,
        ) as session:
            results.append(
                judge_cell(
                    cell,
                    kernel,
                    session,
                    ModuleFinder(terminal, kernel),
                    terminal=terminal,
                    guests=guests,
                )
            )
        return results[0].model_copy(update={"accelerator": choice.accel.value})
    except KlpError as error:
        return not_judged(cell, error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _order(cell: Cell, column: Column, digest: str, accel: str, at_a_time: int) -> CellOrder:
    files: dict[str, bytes] = {}

    def packed(word: str) -> str:
        """Return the name by which a worker knows a file or folder; a sample keeps its own."""
        path = Path(word)
        if not path.exists():
            return word
        place = f"{len(files)}/{path.name}"
        names = [f"/{name}" for name in source_files(path)] if path.is_dir() else [""]
        files.update({f"{place}{name}": Path(f"{path}{name}").read_bytes() for name in names})
        return place

    return CellOrder(
        cell=_renamed(cell, packed),
        files=files,
        request=column.options.request(),
        digest=digest,
        accel=accel,
        at_a_time=at_a_time,
    )


def _unpacked(order: CellOrder, folder: Path) -> Cell:
    for name, content in order.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def placed(word: str) -> str:
        return str(folder / word) if (folder / word).exists() else word

    return _renamed(order.cell, placed)


def _renamed(cell: Cell, rename: Callable[[str], str]) -> Cell:
    return replace(
        cell,
        module=rename(cell.module) if cell.module is not None else None,
        source=rename(cell.source) if cell.source is not None else None,
        check=rename(cell.check) if cell.check is not None else None,
        targets=tuple(rename(word) for word in cell.targets),
        replaces=tuple(rename(word) for word in cell.replaces),
    )
