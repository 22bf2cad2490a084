# SPDX-License-Identifier: GPL-2.0-only
"""Each promise of docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def unknown_tests(text: str) -> list[str]:
    """Return the tests that a text names and that are not there."""
    missing = []
    for name, test in _TEST.findall(text):
        path = ROOT / name
        functions = (
            {
                node.name
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.FunctionDef)
            }
            if path.is_file()
            else set()
        )
        if test not in functions:
            missing.append(f"{name}::{test}")
    return missing


def test_the_tests_of_the_promises_exist() -> None:
    """A test that was renamed or removed takes its promise with it."""
    text = PAGE.read_text()
    assert len(_TEST.findall(text)) > 40
    assert unknown_tests(text) == []


def test_each_promise_has_a_test_or_a_command() -> None:
    """No row of a table of promises is without what shows it."""
    rows = re.findall(r"(?m)^\| (?!promise|campaign|---)(.+?) \| (.+) \|$", PAGE.read_text())
    assert rows
    assert [row for row in rows if "`" not in row[1] and not re.search(r"\d|CI", row[1])] == []


def test_a_test_that_is_gone_is_found() -> None:
    """The check sees a function, and a file, that do not exist."""
    text = "`tests/unit/test_reliability.py::test_none`, `tests/unit/none.py::test_it`"
    assert len(unknown_tests(text)) == 2
