# SPDX-License-Identifier: GPL-2.0-only
"""The page of models compare: where its curves and bars lie, and that nothing is lost on it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from harness.report.base import CheckOutcome
from harness.tools.models import curves
from harness.tools.models.catalogue import LINUX, NO_RELIABLE_STACK
from harness.tools.models.compare_page import compare_page
from harness.tools.models.curves import decades, nice_step, stall_bars, time_chart
from harness.tools.models.results import ComparedResult
from harness.tools.models.rows import SIZES, time_id


def compared(model: str, row: str, *values: float, **fields: Any) -> ComparedResult:
    median = sorted(values)[len(values) // 2] if values else None
    return ComparedResult(
        id=f"{row}/{model}",
        outcome=fields.pop("outcome", CheckOutcome.PASSED),
        seconds=1.0,
        model=model,
        row=row,
        unit="s",
        values=values,
        median=median,
        **fields,
    )


def times(model: str, *values: float) -> list[ComparedResult]:
    return [
        compared(model, time_id(size), value) for size, value in zip(SIZES, values, strict=True)
    ]


def test_ten_times_as_long_is_one_line_higher() -> None:
    """Both axes are logarithmic: equal factors are equal distances."""
    chart = time_chart(["a"], times("a", 0.01, 0.1, 1, 1))
    assert chart is not None
    (curve,) = chart.curves
    first, second, third, _ = curve.points
    assert first.y - second.y == pytest.approx(second.y - third.y)
    assert second.x - first.x == pytest.approx(third.x - second.x)
    assert first.y > second.y, "more time is higher up"
    tick = {each.text: each.at for each in chart.up}
    assert tick["1.00 s"] == pytest.approx(third.y)


def test_points_lie_within_the_axes() -> None:
    """Also the spread of each, whatever the values."""
    values = [compared("a", time_id(10), 0.0003, 0.002, 44.0), compared("a", time_id(100), 12.0)]
    chart = time_chart(["a"], values)
    assert chart is not None
    for point in chart.curves[0].points:
        for y in (point.y, point.low_y, point.high_y):
            assert y is not None
            assert curves.TOP <= y <= curves.BOTTOM


@pytest.mark.parametrize("last", [0.001, 1])
def test_names_do_not_cover_each_other(last: float) -> None:
    """Nine models that end at the same place have their names below each other, in the chart."""
    names = [f"model-{number}" for number in range(9)]
    found = [each for name in names for each in times(name, 1, 0.001, 1, last)]
    chart = time_chart(names, found)
    assert chart is not None
    places = [curve.label_y for curve in chart.curves]
    assert all(after - before >= curves.LABEL_SPACE for before, after in pairwise(places))
    assert places[0] >= curves.NEVER_Y
    assert places[-1] <= curves.BOTTOM
    assert len({curve.colour for curve in chart.curves}) == len(names)


def test_never_is_above_all_figures() -> None:
    """A transition without an end is on a line of its own, with its reason; not one left out."""
    never = compared("b", time_id(10), never="not within 45 s: held by x")
    untried = compared("b", time_id(100), never="not tried: it was not within 45 s")
    chart = time_chart(["a", "b"], [*times("a", 1, 1, 1, 1), never, untried])
    assert chart is not None
    assert chart.never
    (point,) = next(curve for curve in chart.curves if curve.model == "b").points
    assert point.y < curves.TOP
    assert "held by x" in point.title
    plain = time_chart(["a"], times("a", 1, 1, 1, 1))
    assert plain is not None
    assert not plain.never


def test_without_figures_there_is_no_chart() -> None:
    """A comparison of other measures has neither curves nor bars."""
    found = [compared("a", "both", says="yes")]
    assert time_chart(["a"], found) is None
    assert stall_bars(["a"], found) is None


def test_bars_are_as_long_as_their_stalls() -> None:
    """Twice the stall is twice the bar; noise comes first; a model without figures has no place."""
    found = [compared("a", "stall-none", 0.01), compared("a", "stall", 0.02, 0.02, 0.04)]
    bars = stall_bars(["a", "b"], found)
    assert bars is not None
    noise, stall = bars.bars
    assert stall.width == pytest.approx(2 * noise.width)
    assert (noise.kind, stall.kind) == ("stall-none", "stall")
    assert stall.high <= curves.BAR_RIGHT
    assert [name for name, _ in bars.models] == ["a"]
    assert bars.ticks[-1].at == pytest.approx(curves.BAR_RIGHT)


@pytest.mark.parametrize(
    ("values", "powers"), [([0.02, 3.0], (-2, 1)), ([1.0], (0, 1)), ([], (-3, 1)), ([0.0], (-3, 1))]
)
def test_axes_enclose_the_values(values: list[float], powers: tuple[int, int]) -> None:
    """In powers of ten, and never of no length."""
    assert decades(values) == powers


@pytest.mark.parametrize("most", [0.013, 0.02, 0.1, 0.77, 5.0, 9.9])
def test_axes_of_bars_have_few_round_steps(most: float) -> None:
    """Between two and eight steps reach the longest bar."""
    assert 2 <= most / nice_step(most) <= 8


def test_the_page_has_all_that_was_found() -> None:
    """Curves, bars, the table, reasons, and the models; a failure cannot be taken for a figure."""
    found = [
        *times("linux", 1.5, 1.5, 1.5, 1.5),
        compared("linux", "stall-none", 0.01),
        compared("linux", "stall", 0.02),
        compared("no-reliable-stack", "in-use", never="not within 45 s: 30 <kernel> threads"),
        compared("linux", "mixed", 1.0, outcome=CheckOutcome.FAILED, detail="1 calls mixed"),
    ]
    page = compare_page((LINUX, NO_RELIABLE_STACK), found, {"kernel": "6.1"}, partial=True)
    assert page.count("<svg") == 2
    assert "1.50 s" in page
    assert '<td class="never"' in page
    assert "30 &lt;kernel&gt; threads" in page
    assert "failed: 1 calls mixed" in page
    assert "Partial" in page
    assert LINUX.cannot in page


def test_a_page_without_any_result_is_a_page() -> None:
    """An interrupted comparison still has its models."""
    page = compare_page((LINUX,), [], {}, partial=True)
    assert "<svg" not in page
    assert LINUX.does in page
