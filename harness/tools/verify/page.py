# SPDX-License-Identifier: GPL-2.0-only
"""What verifying livepatches came to, as one HTML page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.report.html import render
from harness.report.timeline_page import timeline_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.run_results import RunResult
    from harness.tools.verify.results import VerdictFacts, VerifyResult

_NEWS = (CheckOutcome.FAILED, CheckOutcome.WARNED)


def verify_page(
    verdicts: Sequence[VerdictFacts],
    results: Sequence[VerifyResult],
    runs: Sequence[RunResult],
    *,
    kernel: str,
    accelerator: str,
) -> str:
    """Return the page: what each module came to, all checks with their evidence, timelines."""
    return render(
        "page.html.j2",
        str(__package__),
        kernel=kernel,
        accelerator=accelerator,
        verdicts=verdicts,
        checks={v.module: [r for r in results if r.module == v.module] for v in verdicts},
        counts={
            v.module: Counter(r.outcome.value for r in results if r.module == v.module)
            for v in verdicts
        },
        news=_NEWS,
        drawings={
            v.module: [
                (run.id.partition("/")[2], timeline_svg(run, ident=f"t{number}"))
                for number, run in enumerate(runs)
                if run.id.partition("/")[0] == v.module
            ]
            for v in verdicts
        },
    )
