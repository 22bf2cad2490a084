# SPDX-License-Identifier: GPL-2.0-only
"""The C sources keep their order: who calls whom, what a header holds, what the READMEs list."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "guest-programs"

INCLUDE = re.compile(r'^#include "(\w+)\.h"$', re.MULTILINE)
DECLARED = re.compile(r"^(?!typedef)\w[^;{}#]*?\b(\w+)\([^;{}]*\);", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# A function's body begins with a brace in the first column, after its signature.
BODY = re.compile(r"^(\w[^;{}#]*\))\n\{", re.MULTILINE)


def code(path: Path) -> str:
    return COMMENT.sub("", path.read_text())


def layers() -> list[list[str]]:
    """The files of each line of the list in the README, from the top."""
    block = (PROGRAMS / "README.md").read_text().split("checks that:\n\n")[1].split("\n\n")[0]
    return [re.split(r"\s{3,}", line.strip())[0].split(", ") for line in block.splitlines()]


def included(name: str) -> set[str]:
    """The other source files whose headers a file or its own header includes."""
    files = [path for path in (PROGRAMS / f"{name}.c", PROGRAMS / f"{name}.h") if path.exists()]
    found = {other for path in files for other in INCLUDE.findall(path.read_text())}
    return {other for other in found - {name} if (PROGRAMS / f"{other}.c").exists()}


SOURCES = sorted(path.stem for path in PROGRAMS.glob("*.c"))


def test_the_guest_programs_have_no_circle() -> None:
    """No file calls into one that calls back; calling without the header does not compile."""
    order = TopologicalSorter({name: included(name) for name in SOURCES})
    assert set(order.static_order()) == set(SOURCES)  # raises CycleError


def test_the_readme_lists_the_files_of_the_agent_in_the_order_of_their_calls() -> None:
    """A file includes headers of files that stand further down only."""
    listed = layers()
    level = {name: number for number, names in enumerate(listed) for name in names}
    assert set(level) == {name for name in SOURCES if not name.startswith("klp_")} | {"klp_agent"}
    for name, number in level.items():
        assert all(level[other] > number for other in included(name)), name


@pytest.mark.parametrize("name", [name for name in SOURCES if not name.startswith("klp_")])
def test_a_header_declares_what_its_own_source_defines(name: str) -> None:
    """So the include of a header is the call of that one file."""
    defined = {
        re.findall(r"(\w+)\(", body)[0] for body in BODY.findall(code(PROGRAMS / f"{name}.c"))
    }
    declared = set(DECLARED.findall(code(PROGRAMS / f"{name}.h")))
    assert declared
    assert declared <= defined


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.h")), ids=lambda path: path.name)
def test_headers_of_the_guest_programs_hold_no_code(path: Path) -> None:
    """It is compiled once, in the file of that name, and linked."""
    assert not BODY.findall(code(path))
