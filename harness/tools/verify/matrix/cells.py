# SPDX-License-Identifier: GPL-2.0-only
"""One cell of a matrix: a patch is verified on a kernel, and however that ends is its result."""

from __future__ import annotations

import time
import traceback
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.invocation import error_facts, kernel_facts
from harness.errors import KernelVerdict, KlpError
from harness.log import LOGGER
from harness.report.base import CheckOutcome
from harness.tools.verify.api import verify_case
from harness.tools.verify.asked import Asked
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.results import CellResult, VerifyResult, facts_of, results_of
from harness.tools.verify.verdict import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from harness.cli.modules import ModuleFinder
    from harness.report.terminal import Terminal
    from harness.tools.verify.matrix.plan import Cell
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

# A cell has the worst of its verdicts.
_WORST_FIRST = (CheckOutcome.FAILED, CheckOutcome.WARNED, CheckOutcome.PASSED)


def judge_cell(
    cell: Cell,
    kernel: Kernel,
    session: Session,
    finder: ModuleFinder,
    *,
    terminal: Terminal,
    guests: int,
    gate: AbstractContextManager[object] | None = None,
    on_check: Callable[[Check], None] = lambda _: None,
) -> CellResult:
    """Verify a cell's patch; return the result, also of what could not be verified.

    ``terminal`` shows the progress of what has to be built. What is no ordinary failure, such as a
    bug of the harness, is the result of the cell as well; KeyboardInterrupt passes.
    """
    start_s = time.monotonic()
    verdicts: list[tuple[Verdict, Path]] = []
    known: list[Check] = []
    error: Exception | None = None
    name = cell.row

    def note(check: Check) -> None:
        known.append(check)
        on_check(check)

    try:
        for case in asked_of(cell).cases(finder, kernel, terminal):
            name = case.name
            known.clear()
            verdict = verify_case(case, session, guests=guests, on_check=note, gate=gate)
            known.clear()
            verdicts.append((verdict, case.request.module))
    except KlpError as failure:
        error = failure
    except Exception as failure:  # noqa: BLE001 - one cell must not end all others
        LOGGER.debug("%s", traceback.format_exc())
        error = failure
    unfinished = results_of(Verdict(module=name, checks=tuple(known)))
    return _result(cell, kernel, verdicts, unfinished, error, time.monotonic() - start_s)


def asked_of(cell: Cell) -> Asked:
    """Return what a cell asks to verify."""
    return Asked(
        modules=(cell.module,) if cell.module is not None else (),
        sources=(Path(cell.source),) if cell.source is not None else (),
        targets=cell.targets,
        replaces=cell.replaces,
        request=partial(
            VerifyRequest,
            check=Path(cell.check) if cell.check is not None else None,
            **cell.settings,
        ),
    )


def not_judged(cell: Cell, error: BaseException, seconds: float = 0.0) -> CellResult:
    """Return the result of a cell whose kernel cannot be had, or that was lost on its way."""
    return _result(cell, None, (), (), error, seconds)


def left_out(cell: Cell) -> CellResult:
    """Return the result of a cell that has nothing to verify."""
    return CellResult(
        id=cell.id,
        outcome=CheckOutcome.NOT_RUN,
        seconds=0,
        row=cell.row,
        column=cell.column,
        at=now(),
        detail=cell.not_run or "",
    )


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _result(
    cell: Cell,
    kernel: Kernel | None,
    verdicts: Sequence[tuple[Verdict, Path]],
    unfinished: Sequence[VerifyResult],
    error: BaseException | None,
    seconds: float,
) -> CellResult:
    facts = tuple(facts_of(verdict, path) for verdict, path in verdicts)
    checks = tuple(each for verdict, _ in verdicts for each in results_of(verdict))
    outcomes = {verdict.outcome for verdict, _ in verdicts}
    outcome = next((each for each in _WORST_FIRST if each in outcomes), CheckOutcome.ERROR)
    if error is not None and outcome is not CheckOutcome.FAILED:
        # A module or kernel that does not build is a verdict; what could not be judged is none.
        is_verdict = isinstance(error, KernelVerdict)
        outcome = CheckOutcome.FAILED if is_verdict else CheckOutcome.ERROR
    return CellResult(
        id=cell.id,
        outcome=outcome,
        seconds=seconds,
        row=cell.row,
        column=cell.column,
        at=now(),
        kernel=kernel_facts(kernel) if kernel is not None else None,
        codes=tuple(sorted({code for each in facts for code in each.codes})),
        detail=_detail((*checks, *unfinished), error),
        error=error_facts(error) if error is not None else None,
        verdicts=facts,
        checks=(*checks, *unfinished),
        runs=tuple(run for verdict, _ in verdicts for run in verdict.runs),
    )


def _detail(checks: Sequence[VerifyResult], error: BaseException | None) -> str:
    """Return in one line what is to be known of a cell."""
    for outcome in (CheckOutcome.FAILED, CheckOutcome.WARNED):
        found = [check for check in checks if check.outcome is outcome]
        if error is not None and outcome is CheckOutcome.WARNED:
            break
        if found:
            more = f" (and {len(found) - 1} more)" if found[1:] else ""
            return f"{found[0].id}: {found[0].detail}{more}"
    if error is not None:
        return error_facts(error).message
    count = sum(check.outcome is CheckOutcome.PASSED for check in checks)
    return f"{count} checks passed"
