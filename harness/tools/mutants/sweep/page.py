# SPDX-License-Identifier: GPL-2.0-only
"""A sweep as one HTML page: survivors first, the scores, and the source by what became of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.report.base import CheckOutcome
from harness.report.html import render
from harness.tools.mutants.sweep.candidates import MEANINGS, Operator
from harness.tools.mutants.sweep.scores import COUNTED, changed, score, scores_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.tools.mutants.sweep.results import SweepResult

# A line has the colour of the first of these that one of its mutants has.
_WORST_FIRST = (
    CheckOutcome.SURVIVED,
    CheckOutcome.UNCOVERED,
    CheckOutcome.ERROR,
    CheckOutcome.CAUGHT,
    CheckOutcome.EQUIVALENT,
)


def sweep_page(
    results: Sequence[SweepResult],
    sources: Mapping[str, bytes],
    swept: str,
    *,
    partial: bool = False,
    by_verify: bool = False,
) -> str:
    """Return the page. ``sources`` are the mutated files by name; those without results stay out.

    ``swept`` names the kernel, or the livepatch and its kernel. ``partial``: the sweep did not
    finish. ``by_verify``: not tests judged the mutants, but scenes of verify.
    """
    survivors = [each for each in results if each.outcome is CheckOutcome.SURVIVED]
    by_function = sorted(
        scores_by(results, lambda each: f"{each.file.rpartition('/')[2]}: {each.place}"),
        key=lambda each: (each.caught - each.judged, each.name),
    )
    in_order = sorted(results, key=lambda each: each.operator)
    return render(
        "page.html.j2",
        str(__package__),
        swept=swept,
        unit="check" if by_verify else "test",
        ran="scenes" if by_verify else "tests",
        noticer="verify" if by_verify else "a test",
        total=score("all", results),
        outcomes=COUNTED,
        survivors=survivors,
        uncovered=[each for each in results if each.outcome is CheckOutcome.UNCOVERED],
        errors=[each for each in results if each.outcome is CheckOutcome.ERROR],
        changed=changed(results),
        tables=[
            ("file", scores_by(results, lambda each: each.file)),
            ("operator", scores_by(in_order, lambda each: each.operator)),
            ("function", by_function),
        ],
        meanings={each.value: MEANINGS[each] for each in Operator},
        how=Counter(each.noticed.how for each in results if each.noticed is not None),
        files=[
            _file(name, text, [each for each in results if each.file == name])
            for name, text in sources.items()
            if any(each.file == name for each in results)
        ],
        partial=partial,
    )


def _file(name: str, source: bytes, results: Sequence[SweepResult]) -> dict[str, Any]:
    by_line: dict[int, list[SweepResult]] = {}
    for result in results:
        by_line.setdefault(result.line, []).append(result)
    rows = []
    for number, text in enumerate(source.decode(errors="replace").splitlines(), 1):
        found = by_line.get(number, [])
        outcomes = Counter(each.outcome for each in found)
        rows.append(
            {
                "number": number,
                "text": text.expandtabs(8),
                "state": next((each.value for each in _WORST_FIRST if outcomes[each]), ""),
                "note": ", ".join(f"{n} {each.value}" for each, n in sorted(outcomes.items())),
                "mutants": "\n".join(_told(each) for each in found),
            }
        )
    return {"name": name, "ident": name.replace("/", "-"), "rows": rows}


def _told(result: SweepResult) -> str:
    noticed = result.noticed
    by = f" by {noticed.test.rpartition('/')[2]} ({noticed.how})" if noticed is not None else ""
    return f"{result.operator}: {result.outcome.value}{by}"
