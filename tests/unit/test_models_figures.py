# SPDX-License-Identifier: GPL-2.0-only
"""Figures of models compare as people read them: cells, the table, reasons, lines."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from harness.report.base import CheckOutcome
from harness.report.terminal import Terminal
from harness.tools.models.catalogue import LINUX
from harness.tools.models.compare_terminal import finding_words, print_compared, remarks
from harness.tools.models.figures import cell, seconds
from harness.tools.models.findings import Finding
from harness.tools.models.results import ComparedResult


def result(**fields: Any) -> ComparedResult:
    known: dict[str, Any] = {
        "id": "in-use/kpatch",
        "outcome": CheckOutcome.PASSED,
        "seconds": 1.0,
        "model": "kpatch",
        "row": "in-use",
        "unit": "s",
    }
    return ComparedResult(**(known | fields))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0004, "0.4 ms"), (0.0121, "12 ms"), (1.234, "1.23 s"), (31.04, "31.0 s")],
)
def test_times_have_about_three_digits(value: float, text: str) -> None:
    """Milliseconds below a second, and no digits that mean nothing."""
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"values": (1.0, 3.0, 2.0), "median": 2.0}, "2.00 s (1.00 s to 3.00 s)"),
        ({"values": (0.5,), "median": 0.5}, "500 ms"),
        ({"values": (7.0,), "median": 7.0, "unit": "tasks"}, "7"),
        ({"never": "not within 45 s: x"}, "never"),
        ({"never": "not tried: x"}, "not tried"),
        ({"says": "breaks: an old function read 7"}, "breaks"),
        ({"outcome": CheckOutcome.FAILED, "says": "yes"}, "yes, failed"),
        ({"values": (0.5001, 0.5002), "median": 0.5}, "500 ms"),
        ({"outcome": CheckOutcome.FAILED}, "failed"),
        ({"outcome": CheckOutcome.ERROR, "values": (1.0,), "median": 1.0}, "error"),
    ],
)
def test_a_cell_says_what_was_found(fields: dict[str, Any], text: str) -> None:
    """A figure with its spread, words, or never; what failed cannot be taken for a figure."""
    assert cell(result(**fields)) == text


def test_reasons_stand_below_the_table() -> None:
    """What never ends has its reason there, and what failed; what was not tried has none."""
    lines = remarks(
        [
            result(never="not within 45 s: klp-gate (9) is inside f()"),
            result(never="not tried: with 10 tasks it was not within 45 s"),
            result(outcome=CheckOutcome.FAILED, detail="panicked"),
            result(row="", outcome=CheckOutcome.DOES_NOT_APPLY, detail="hunk 1 does not fit"),
        ]
    )
    assert lines == [
        "a function always in use, kpatch: not within 45 s: klp-gate (9) is inside f()",
        "a function always in use, kpatch: failed: panicked",
        "kpatch: does-not-apply: hunk 1 does not fit",
    ]


def test_a_finding_is_a_line() -> None:
    """Figure, reason and words in one line, with the promise that was broken."""
    finding = Finding(row="mixed", value=2, says="met f original g patched", wrong="2 calls")
    assert finding_words(finding) == "2; met f original g patched; not as promised: 2 calls"


def test_all_models_are_in_the_table() -> None:
    """Also those that do not fit beside the first five; a model without any figure is left out."""
    models = [replace(LINUX, name=f"model-{number}") for number in range(8)]
    found = [
        result(id=f"in-use/{model.name}", model=model.name, values=(number + 0.25,), median=1.0)
        for number, model in enumerate(models[:7])
    ]
    out = io.StringIO()
    print_compared(Terminal(stdout=out, stderr=io.StringIO()), models, found)
    text = out.getvalue()
    assert text.count("a function always in use") == 2
    assert all(model.name in text for model in models[:7])
    assert models[7].name not in text
