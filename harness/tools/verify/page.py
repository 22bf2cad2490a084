# SPDX-License-Identifier: GPL-2.0-only
"""The verdicts on livepatches as one HTML page that needs no other file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.report.html import render
from harness.report.timeline_page import timeline_svg
from harness.tools.verify.results import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.base import ErrorFacts
    from harness.report.run_results import RunResult
    from harness.tools.verify.results import ExecutedFacts, VerdictFacts, VerifyResult


def verify_page(
    verdicts: Sequence[VerdictFacts],
    results: Sequence[VerifyResult],
    runs: Sequence[RunResult],
    *,
    kernel: str,
    accelerator: str,
    partial: bool = False,
    above: tuple[str, str] | None = None,
    outcome: tuple[str, str] | None = None,
    error: ErrorFacts | None = None,
) -> str:
    """Return the page: the verdict on each module, its checks with their evidence, timelines.

    Of a cell of a matrix, ``above`` is its name and the link to the table, ``outcome`` its outcome
    and what is to be known of it, ``error`` what kept it from being judged.
    """
    checks = {v.module: [r for r in results if r.module == v.module] for v in verdicts}
    unfinished = [r for r in results if r.module not in checks]
    return render(
        "page.html.j2",
        str(__package__),
        kernel=kernel,
        accelerator=accelerator,
        partial=partial,
        above=above,
        cell_outcome=outcome,
        error=error,
        unfinished=unfinished,
        verdicts=verdicts,
        checks=checks,
        counts={name: Counter(r.outcome.value for r in found) for name, found in checks.items()},
        news=FINDINGS,
        executed={v.module: _executed(v.executed) for v in verdicts},
        drawings={
            v.module: [
                (run.id.partition("/")[2], timeline_svg(run, ident=f"t{number}"))
                for number, run in enumerate(runs)
                if run.id.partition("/")[0] == v.module
            ]
            for v in verdicts
        },
    )


def _executed(
    executed: Sequence[ExecutedFacts],
) -> tuple[list[str], dict[str, dict[str, list[tuple[str, str]]]]]:
    """Return the columns of the table of executions, and by function and column its counts.

    Each count is "old" or "new" with how often that body ran: the least of several counts in one
    place, since one of them that saw no call is worth knowing.
    """
    columns = list(dict.fromkeys(_place(each) for each in executed))
    table: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for function in sorted({each.function for each in executed}):
        cells = table.setdefault(function, {})
        for column in columns:
            here = [e for e in executed if e.function == function and _place(e) == column]
            for body in ("old", "new"):
                counts = [getattr(each, body) for each in here]
                known = [count for count in counts if count is not None]
                if known:
                    about = "" if all(each.exact for each in here) else "about "
                    cells.setdefault(column, []).append((body, f"{about}{min(known)}"))
    return columns, table


def _place(each: ExecutedFacts) -> str:
    return f"{each.scene}: {each.during}"
