# SPDX-License-Identifier: GPL-2.0-only
"""Which tests carry which rule, read from the markers in the files of the behaviour suite.

Nothing is imported and no kernel is needed: the table with its tests can be shown anywhere.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_MARKER = "pytest.mark.behaviour"


def carriers_of_rules(suite: Path) -> Mapping[str, tuple[str, ...]]:
    """Return for each rule id the tests that carry it, as ``transition/test_sleeper.py::test_x``.

    Raises HarnessError for a file that is no Python, or a marker whose id is not written out.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(suite.rglob("test_*.py")):
        name = path.relative_to(suite).as_posix()
        try:
            for rule, test in marked(path.read_text(encoding="utf-8")):
                if f"{name}::{test}" not in found[rule]:
                    found[rule].append(f"{name}::{test}")
        except (SyntaxError, ValueError) as error:
            raise HarnessError(f"the markers of {name} cannot be read: {error}") from error
    return {rule: tuple(tests) for rule, tests in found.items()}


def marked(text: str) -> Iterator[tuple[str, str]]:
    """Yield rule and test for each marker of a file: on the test, its class, or the whole file.

    Raises SyntaxError, and ValueError for an id that is not written out.
    """
    tree = ast.parse(text)
    whole_file = [
        rule
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
        for rule in _rules(node.value)
    ]
    yield from _tests(tree.body, prefix="", inherited=whole_file)


def _tests(
    body: Sequence[ast.stmt], *, prefix: str, inherited: Sequence[str]
) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            own = [rule for decorator in node.decorator_list for rule in _rules(decorator)]
            yield from ((rule, f"{prefix}{node.name}") for rule in (*inherited, *own))
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            own = [rule for decorator in node.decorator_list for rule in _rules(decorator)]
            yield from _tests(
                node.body, prefix=f"{prefix}{node.name}::", inherited=(*inherited, *own)
            )


def _rules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == _MARKER:
            for argument in node.args:
                yield str(ast.literal_eval(argument))
