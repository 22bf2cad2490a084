# SPDX-License-Identifier: GPL-2.0-only
"""Which rules a patch without a header is tried with first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.behaviours.mutants import Mutant, read_mutant
from harness.tools.mutants.likely_rules import changed_places, rules_near

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(name="mutant")
def make_mutant(tmp_path: Path) -> Callable[..., Mutant]:
    """Write a patch that drops one line of a file, and read it as a mutant."""

    def make(name: str, file: str, line: int, breaks: str = "") -> Mutant:
        path = tmp_path / f"{name}.patch"
        header = f"Breaks: {breaks}\n\n" if breaks else ""
        hunk = f"@@ -{line - 1},3 +{line - 1},2 @@\n before\n-gone\n after\n"
        path.write_text(f"{header}--- a/{file}\n+++ b/{file}\n{hunk}")
        return read_mutant(path)

    return make


def test_places_are_those_of_the_lines_that_change() -> None:
    """Context does not count, in any hunk of any file; a line that comes is where it stands."""
    diff = (
        "--- a/x.c\n+++ b/x.c\n"
        "@@ -10,4 +10,4 @@ f()\n a\n-b\n+c\n d\n+e\n f\n"
        "@@ -50 +51 @@\n-g\n+h\n"
        "--- a/y/z.c\n+++ b/y/z.c\n"
        "@@ -7,2 +7,1 @@\n i\n-j\n"
    )
    assert list(changed_places(diff)) == [
        ("x.c", 11),
        ("x.c", 12),
        ("x.c", 13),
        ("x.c", 50),
        ("x.c", 51),
        ("y/z.c", 8),
    ]


def test_the_nearest_come_first_and_each_rule_once(mutant: Callable[..., Mutant]) -> None:
    """Distance counts on both sides, in the same file alone; one without rules says nothing."""
    known = [
        mutant("far", "core.c", 900, "TR-09 TR-01"),
        mutant("above", "core.c", 88, "TR-01"),
        mutant("below", "core.c", 110, "SV-02 TR-02"),
        mutant("elsewhere", "fork.c", 100, "FO-01"),
        mutant("mute", "core.c", 100),
    ]
    near = rules_near([("core.c", 100)], known)
    assert near == ("SV-02", "TR-02", "TR-01", "TR-09")


def test_only_some_are_neighbours(mutant: Callable[..., Mutant]) -> None:
    """Else the tests of a whole file would come first."""
    known = [mutant(f"n{n}", "core.c", 100 + n, f"TR-{n:02}") for n in range(1, 20)]
    near = rules_near([("core.c", 100)], known)
    assert near[0] == "TR-01"
    assert len(near) < len(known) / 2


def test_nobody_is_near(mutant: Callable[..., Mutant]) -> None:
    """Nothing is guessed for a file that no known mutant changes."""
    assert rules_near([("new.c", 1)], [mutant("a", "core.c", 1, "TR-01")]) == ()
