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
# All but what a program begins with: programs.c calls the main() of each klp_*.c.
PARTS_OF_PROGRAMS = [name for name in SOURCES if not name.startswith("klp_") and name != "programs"]


def test_the_guest_programs_have_no_circle() -> None:
    """No file calls into one that calls back; calling without the header does not compile."""
    order = TopologicalSorter({name: included(name) for name in SOURCES})
    assert set(order.static_order()) == set(SOURCES)  # raises CycleError


def test_the_readme_lists_the_parts_of_programs_in_the_order_of_their_calls() -> None:
    """A file includes headers of files that stand further down only."""
    listed = layers()
    level = {name: number for number, names in enumerate(listed) for name in names}
    assert set(level) == {*PARTS_OF_PROGRAMS, "klp_agent", "klp_duel"}
    for name, number in level.items():
        assert all(level[other] > number for other in included(name)), name


@pytest.mark.parametrize("name", PARTS_OF_PROGRAMS)
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


MODULES = ROOT / "livepatch-modules"
CORPUS = ROOT / "tests/corpus/modules"

BUILT = re.compile(r"^obj-m \+= (\w+)\.o$", re.MULTILINE)
PARTS = re.compile(r"^(\w+)-y := (.*)$", re.MULTILINE)
PART_OF_MODULE = re.compile(r"\b(module_(init|exit|param)|MODULE_\w+)\(")
PARAMETER = re.compile(r"^module_param(?:_array|_cb)?\((\w+),", re.MULTILINE)
INCLUDED_CODE = re.compile(r'^#include "(\w+\.inc\.c)"$', re.MULTILINE)
ROW = re.compile(r"^\| (`klp_[^|]*) \| (?:[^|]|(?<=`[a-z])\|)* \|([^|]*)\|$", re.MULTILINE)
QUOTED = re.compile(r"`(\w+)`")


@pytest.mark.parametrize(
    "path", [*sorted(MODULES.glob("*.h")), *sorted(CORPUS.glob("*.h"))], ids=lambda path: path.name
)
def test_headers_of_modules_hold_no_module(path: Path) -> None:
    """A header has declarations, macros and inline helpers; code of a module is *.inc.c."""
    assert not PART_OF_MODULE.search(code(path))
    assert all("static inline" in body for body in BODY.findall(code(path)))


@pytest.mark.parametrize("folder", [MODULES, CORPUS], ids=["samples", "corpus"])
def test_shared_code_of_modules_is_used_by_two(folder: Path) -> None:
    """Code in a file of its own serves more than one module."""
    users = [
        name for path in folder.glob("*.c") for name in INCLUDED_CODE.findall(path.read_text())
    ]
    for path in folder.glob("*.inc.c"):
        assert users.count(path.name) > 1, path.name


def parameters(module: str) -> set[str]:
    parts = dict(PARTS.findall((MODULES / "Kbuild").read_text()))
    files = [MODULES / f"{part}.c" for part in parts.get(module, module).replace(".o", "").split()]
    files += [MODULES / name for path in files for name in INCLUDED_CODE.findall(path.read_text())]
    return {name for path in files for name in PARAMETER.findall(path.read_text())}


def rows() -> dict[str, set[str]]:
    """The parameters of each module of the README; a row may name several: `klp_x_a`, `_b`."""
    found = {}
    for names, listed in ROW.findall((MODULES / "README.md").read_text()):
        first, *others = QUOTED.findall(names)
        for name in (first, *(first.rpartition("_")[0] + other for other in others)):
            found[name] = set(QUOTED.findall(listed))
    return found


def test_the_readme_lists_each_module_with_its_parameters() -> None:
    """The table in the README agrees with Kbuild and module_param()."""
    built = BUILT.findall((MODULES / "Kbuild").read_text())
    assert rows() == {module: parameters(module) for module in built}


def test_each_sample_module_is_loaded_by_something() -> None:
    """One that neither a test nor a tool names is dead: unit tests load no module."""
    folders = [ROOT / "harness", *(path for path in (ROOT / "tests").iterdir() if path.is_dir())]
    texts = [
        path.read_text()
        for folder in folders
        if folder.name != "unit"
        for path in folder.rglob("*")
        if path.suffix in {".py", ".toml"}
    ]
    words = set(re.findall(r"\w+", "\n".join(texts)))
    for module in BUILT.findall((MODULES / "Kbuild").read_text()):
        # Some are named by letter: f"klp_test_cmdline_{letter}".
        assert {module, module[:-1]} & words, module
