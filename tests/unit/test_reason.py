# SPDX-License-Identifier: GPL-2.0-only
"""Which line of a failure is told where there is room for one."""

from __future__ import annotations

import pytest

from harness.report.reason import reason_of


@pytest.mark.parametrize(
    ("detail", "line"),
    [
        (None, ""),
        ("GuestPanic: it died\n\nE   assert 0", "GuestPanic: it died"),
        ("def test():\n>   assert 0\nE   assert 0\nE    +  more", "assert 0"),
        ("[XPASS(strict)] a bug\nE   not this", "[XPASS(strict)] a bug"),
        ("[gw5] linux -- Python 3.11.7\n[XPASS(strict)] a bug", "[XPASS(strict)] a bug"),
        ("[gw5] linux -- Python 3.11.7", "[gw5] linux -- Python 3.11.7"),
        ("\nended\nlater", "ended"),
        ("Else it is a sentence\nE   boom", "boom"),
        ("x" * 400, "x" * 300),
    ],
)
def test_the_line_that_tells_most_is_chosen(detail: str | None, line: str) -> None:
    """A named error comes before an assertion, and that before the first line."""
    assert reason_of(detail) == line
