# SPDX-License-Identifier: GPL-2.0-only
"""Rules x kernels as one HTML page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.report.base import KernelFacts
    from harness.report.rules import BehaviourResult

_TEMPLATE = "rules.html.j2"


def rule_matrix_page(
    results: Sequence[BehaviourResult], kernels: Sequence[KernelFacts], sections: Mapping[str, str]
) -> str:
    """Return the page: a row for each rule, a column for each kernel, in the order of both.

    ``sections`` are the titles by the first two letters of a rule's id.
    """
    environment = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = [
        Counter(result.kernels[number].outcome.value for result in results)
        for number in range(len(kernels))
    ]
    return environment.get_template(_TEMPLATE).render(
        results=results, kernels=kernels, counts=counts, sections=sections
    )
