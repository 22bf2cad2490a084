# SPDX-License-Identifier: GPL-2.0-only
"""The tests of each rule, read from the markers in the files of the behaviour suite.

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

_PREFIX = "tests/behaviours/"
_MARKER = "pytest.mark.behaviour"
_OTHER_KERNEL = "pytest.mark.kernel_config"


def name_in_suite(node_id: str) -> str:
    """Return a test's name in the folder of the suite, from a checkout's or an installed one's."""
    _, found, inside = node_id.rpartition(_PREFIX)
    return inside if found else node_id


def find_rule_tests(suite: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the tests of each rule by its id, as ``transition/test_sleeper.py::test_x``.

    Raises HarnessError for a file that is no Python, or a marker whose id is not written out.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for rule, test in _all_marked(suite, _MARKER):
        found[rule][test] = None
    return {rule: tuple(tests) for rule, tests in found.items()}


def on_other_kernels(suite: Path) -> frozenset[str]:
    """Return the tests, named as above, for which the kernel is built with other options.

    Raises HarnessError as `find_rule_tests` does.
    """
    return frozenset(test for _, test in _all_marked(suite, _OTHER_KERNEL))


def marked(text: str, marker: str = _MARKER) -> Iterator[tuple[str, str]]:
    """Yield argument (a rule) and test for each marker: on the test, its class, the whole file.

    Raises SyntaxError, and ValueError for an id that is not written out.
    """
    tree = ast.parse(text)
    whole_file = [
        rule
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
        for rule in _arguments(node.value, marker)
    ]
    yield from _tests(tree.body, marker, prefix="", inherited=whole_file)


def _all_marked(suite: Path, marker: str) -> Iterator[tuple[str, str]]:
    for path in sorted(suite.rglob("test_*.py")):
        name = path.relative_to(suite).as_posix()
        try:
            for argument, test in marked(path.read_text(encoding="utf-8"), marker):
                yield argument, f"{name}::{test}"
        except (SyntaxError, ValueError) as error:
            raise HarnessError(f"the markers of {name} cannot be read: {error}") from error


def _tests(
    body: Sequence[ast.stmt], marker: str, *, prefix: str, inherited: Sequence[str]
) -> Iterator[tuple[str, str]]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        own = [each for tree in node.decorator_list for each in _arguments(tree, marker)]
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            yield from ((rule, f"{prefix}{node.name}") for rule in (*inherited, *own))
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(
                node.body, marker, prefix=f"{prefix}{node.name}::", inherited=(*inherited, *own)
            )


def _arguments(tree: ast.AST, marker: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == marker:
            for argument in node.args:
                yield str(ast.literal_eval(argument))
