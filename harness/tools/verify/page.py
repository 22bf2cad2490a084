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

    from harness.report.run_results import RunResult
    from harness.tools.verify.results import VerdictFacts, VerifyResult


def verify_page(
    verdicts: Sequence[VerdictFacts],
    results: Sequence[VerifyResult],
    runs: Sequence[RunResult],
    *,
    kernel: str,
    accelerator: str,
    partial: bool = False,
) -> str:
    """Return the page: the verdict on each module, its checks with their evidence, timelines."""
    checks = {v.module: [r for r in results if r.module == v.module] for v in verdicts}
    return render(
        "page.html.j2",
        str(__package__),
        kernel=kernel,
        accelerator=accelerator,
        partial=partial,
        verdicts=verdicts,
        checks=checks,
        counts={name: Counter(r.outcome.value for r in found) for name, found in checks.items()},
        news=FINDINGS,
        drawings={
            v.module: [
                (run.id.partition("/")[2], timeline_svg(run, ident=f"t{number}"))
                for number, run in enumerate(runs)
                if run.id.partition("/")[0] == v.module
            ]
            for v in verdicts
        },
    )
