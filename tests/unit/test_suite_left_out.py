# SPDX-License-Identifier: GPL-2.0-only
"""Runs of the project's own guest tests go without hypothesis' plugin; all others keep it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.resources import Resource, resource_dir
from harness.tools.suite.run_suite import _left_out

SUITE = resource_dir(Resource.BEHAVIOUR_TESTS)
TESTS = SUITE.parent
NONE: list[str] = []
OUT = ["-p", "no:hypothesispytest"]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([str(SUITE)], OUT),
        (["-k", "TR-01", f"{SUITE}/stacking/test_stack.py::test_a"], OUT),
        ([str(TESTS / "guest"), str(SUITE)], OUT),
        ([str(TESTS / "unit")], NONE),
        ([str(SUITE), str(TESTS / "unit/test_left_out.py::test_a")], NONE),
        ([str(SUITE), "--hypothesis-seed=1"], NONE),
        ([str(TESTS.parent)], NONE),
    ],
)
def test_what_may_use_it_keeps_it(words: list[str], options: list[str]) -> None:
    assert _left_out(words, SUITE) == options


def test_tests_of_others_keep_it(tmp_path: Path) -> None:
    assert _left_out([str(tmp_path), str(SUITE)], SUITE) == NONE


def test_no_guest_test_uses_it() -> None:
    files = [path for path in TESTS.rglob("*.py") if not path.is_relative_to(TESTS / "unit")]
    assert len(files) > 20
    assert not [path for path in files if "import hypothesis" in path.read_text()]
    assert not [path for path in files if "from hypothesis" in path.read_text()]
