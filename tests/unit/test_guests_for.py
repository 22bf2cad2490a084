# SPDX-License-Identifier: GPL-2.0-only
"""How many guests run at a time where the user has not said it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cli.suite import guests_for

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("named", "guests"), [(1, 1), (2, 2), (3, 3), (9, 3), (10, 4), (19, 7), (24, 8), (100, 8)]
)
def test_few_tests_have_few_workers(named: int, guests: int) -> None:
    names = [f"tests/behaviours/a.py::test_{number}" for number in range(named)]
    assert guests_for(["-x", *names, names[0]], 8) == guests


def test_what_is_not_named_one_by_one_has_all(tmp_path: Path) -> None:
    assert guests_for([], 8) == 8
    assert guests_for(["-k", "TR-01"], 8) == 8
    assert guests_for([str(tmp_path)], 8) == 8
    assert guests_for([str(tmp_path), "a.py::test_a"], 8) == 8
