# SPDX-License-Identifier: GPL-2.0-only
"""Rules x kernels as one HTML page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.report.html import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.behaviours.results import BehaviourResult
    from harness.report.base import KernelFacts


def rule_matrix_page(
    results: Sequence[BehaviourResult], kernels: Sequence[KernelFacts], sections: Mapping[str, str]
) -> str:
    """Return the page: a row for each rule, a column for each kernel, in the order of both.

    ``sections`` are the titles by the first two letters of a rule's id.
    """
    counts = [
        Counter(result.kernels[number].outcome.value for result in results)
        for number in range(len(kernels))
    ]
    return render(
        "matrix_page.html.j2",
        str(__package__),
        results=results,
        kernels=kernels,
        counts=counts,
        sections=sections,
    )
