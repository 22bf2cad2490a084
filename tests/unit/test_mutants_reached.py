# SPDX-License-Identifier: GPL-2.0-only
"""Which tests run the lines that a mutant changes, and that those come first."""

from __future__ import annotations

from pathlib import Path

from harness.behaviours.mutants import Mutant
from harness.observer.test_lines import TestLines
from harness.tools.mutants.reached import in_order, reached_by
from harness.vm.kernel.patch_file import read_patch

CORE = "kernel/livepatch/core.c"
PATCH = """Broken: x
Breaks: TR-01

--- a/kernel/livepatch/core.c
+++ b/kernel/livepatch/core.c
@@ -10,3 +10,2 @@
 \tif (a)
-\t\treturn b;
 \treturn c;
"""
OWN, OTHER, NONE = "a/test_a.py::test_own", "b/test_b.py::test_other", "c/test_c.py::test_none"


def mutant(tmp_path: Path) -> Mutant:
    """Return a mutant that changes line 11."""
    path = tmp_path / "x.patch"
    path.write_text(PATCH)
    return Mutant(name="x", path=path, patch=read_patch(path), breaks=("TR-01",))


def known(**tests: tuple[int, ...]) -> TestLines:
    names = {"own": OWN, "other": OTHER, "none": NONE}
    return TestLines(
        code={CORE: (10, 11, 12)},
        tests={names[name]: {CORE: frozenset(lines)} for name, lines in tests.items()},
    )


def test_the_tests_of_its_rules_are_among_them(tmp_path: Path) -> None:
    """All that run the line are named, and which of them are of its rules."""
    found = reached_by(
        mutant(tmp_path), known(own=(11,), other=(11, 12), none=(10,)), {"TR-01": [OWN]}
    )
    assert (found.lines, found.tests, found.of_rules) == (1, (OWN, OTHER), (OWN,))
    assert not found.is_missed


def test_a_mutant_that_the_tests_of_its_rules_miss(tmp_path: Path) -> None:
    """It is said when what they run is known, and only then."""
    carriers = {"TR-01": [OWN]}
    missed = reached_by(mutant(tmp_path), known(own=(10,), other=(11,)), carriers)
    assert missed.is_missed
    assert missed.tests == (OTHER,)
    unknown = reached_by(mutant(tmp_path), known(other=(11,)), carriers)
    assert not unknown.is_missed
    assert unknown.unknown == (OWN,)


def test_nothing_is_known_of_other_files(tmp_path: Path) -> None:
    """A change of a file that was not covered is missed by nobody."""
    lines = TestLines(
        code={"kernel/fork.c": (11,)}, tests={OWN: {"kernel/fork.c": frozenset({11})}}
    )
    found = reached_by(mutant(tmp_path), lines, {"TR-01": [OWN]})
    assert (found.lines, found.tests, found.is_missed) == (0, (), False)


def test_those_that_run_the_lines_come_first() -> None:
    """All others keep their order, and none is added."""
    assert in_order((NONE, OTHER, OWN), (OWN, OTHER, "d/test_d.py::test_d")) == (OWN, OTHER, NONE)
