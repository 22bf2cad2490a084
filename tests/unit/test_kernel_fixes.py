# SPDX-License-Identifier: GPL-2.0-only
"""kernel-fixes/: each is the fix of a race that kernels of today are expected to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.behaviours.table import load_table
from harness.tools.race.catalogue import find_races, known_of
from harness.vm.kernel.patch_file import header_fields, read_patch

ROOT = Path(__file__).resolve().parents[2]
FIXES = sorted((ROOT / "kernel-fixes").rglob("*.patch"))
FIELDS = ("Fixes", "Shows", "Rule", "Kernels")


@pytest.mark.parametrize("path", FIXES, ids=lambda path: "-".join(path.parts[-2:]))
def test_a_fix_is_of_a_race_that_is_expected(path: Path) -> None:
    """It names the race that shows the bug, its rule, and series on which that is expected."""
    fields = header_fields(read_patch(path).text, FIELDS)
    assert set(fields) == set(FIELDS)
    (race,) = find_races([fields["Shows"]])
    assert race.rule == fields["Rule"]
    assert race.rule in {rule.id for rule in load_table().rule}
    for series in fields["Kernels"].split():
        assert known_of(race, f"{series}.1") is not None, series


@pytest.mark.parametrize("name", sorted({path.stem for path in FIXES}))
def test_a_fix_has_its_report(name: str) -> None:
    """docs/bugs has a page of that name, which shows how to prove the fix."""
    page = (ROOT / "docs" / "bugs" / f"{name}.md").read_text()
    for path in FIXES:
        if path.stem == name:
            assert f"--patch {path.relative_to(ROOT)}" in page
