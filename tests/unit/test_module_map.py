# SPDX-License-Identifier: GPL-2.0-only
"""Which lines of a module its instructions are of, and what is counted of it in a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from harness.errors import UsageError
from harness.observer.module_lines import ModuleLines, read_ran
from harness.observer.module_map import address_of, module_map, sections_of
from harness.observer.shared_file import MODULES, make_head
from harness.vm.guest.machine import Machine, ModuleWatch
from tests.unit.compiled_modules import HEAD, compiled

if TYPE_CHECKING:
    from pathlib import Path

LINES = ("-g", "-gdwarf-4")
SOURCE = """\
int shown;
__attribute__((section(".text.other"), cold, noinline)) int other(int value)
{
\treturn value + shown;
}
int patched(int value)
{
\tif (value > 3)
\t\treturn other(value);
\tshown++;
\treturn 0;
}
"""


def test_lines_of_a_module(tmp_path: Path) -> None:
    """Each instruction has the line and the function of its source, by section and offset."""
    module = compiled(tmp_path, HEAD + SOURCE, *LINES)
    sections = tuple(sections_of(module))
    code = module_map(module, tmp_path)
    (source,) = code.files
    assert source.text == tuple((HEAD + SOURCE).splitlines())
    places = {each.address: each.places[0] for each in code.codes}
    first = places[address_of(sections, ".text.other", 0)]
    assert (first.file, first.function) == (source.name, "other")
    assert {place.line for place in places.values() if place.function == "patched"} >= {
        HEAD.count("\n") + 8,
        HEAD.count("\n") + 10,
    }


def test_a_jump_to_another_section(tmp_path: Path) -> None:
    """A conditional jump that the kernel fills in leads to the section that it is relocated to."""
    source = """
void seldom(void) __attribute__((cold));
int split(int value)
{
\tif (value > 3) {
\t\tseldom();
\t\tseldom();
\t}
\treturn 0;
}
"""
    module = compiled(tmp_path, HEAD + source, *LINES)
    sections = tuple(sections_of(module))
    (branch,) = module_map(module, tmp_path).branches
    assert branch.target == address_of(sections, ".text.unlikely", 0)


def test_a_source_that_is_elsewhere(tmp_path: Path) -> None:
    """Its lines are known, and empty."""
    module = compiled(tmp_path, HEAD + SOURCE, *LINES)
    (tmp_path / "mod.c").unlink()
    (source,) = module_map(module, None).files
    assert source.name.endswith("mod.c")
    assert set(source.text) == {""}
    assert len(source.text) >= 11


def test_a_module_without_lines(tmp_path: Path) -> None:
    """It is refused, with what to do."""
    module = compiled(tmp_path, HEAD + SOURCE)
    with pytest.raises(UsageError, match="does not say which lines") as refused:
        module_map(module, tmp_path)
    assert "CFLAGS_MODULE" in str(refused.value.hint)


class _Hypervisor:
    def __init__(self, observed: Path) -> None:
        self.observed = observed


class _Machine:
    """A guest whose modules are where a test says."""

    def __init__(self, observed: Path) -> None:
        self.hypervisor = _Hypervisor(observed)
        self.module_watch = ModuleWatch()
        self.sections: dict[str, int] = {}

    def read(self, path: str) -> str:
        name = path.rpartition("/")[2]
        if name not in self.sections:
            raise FileNotFoundError(path)
        return f"{self.sections[name]:#x}\n"


def _count(observed: Path, first: int, address: int, times: int) -> None:
    with observed.open("r+b") as file:
        file.seek(first + 8 * (address - MODULES[0]))
        file.write(times.to_bytes(8, "little"))


def test_modules_take_turns_at_an_address(tmp_path: Path) -> None:
    """What a module before it and one after it count at its addresses is not of the module."""
    module = compiled(tmp_path, HEAD + SOURCE, *LINES)
    observed = tmp_path / "guest.observed"
    head, size = make_head(ranges=[(MODULES[0], MODULES[0] + (1 << 16))])
    observed.write_bytes(head + bytes(size - len(head)))
    counters = size - (8 << 16)
    machine = _Machine(observed)
    lines = ModuleLines(cast("Machine", machine), [module], machine.module_watch)
    at = MODULES[0] + 0x1000
    _count(observed, counters, at, 7)
    for times in (10, 25):
        machine.sections = {".text.other": at}
        with lines.loading("mod", module):
            pass
        _count(observed, counters, at, times)
        _count(observed, counters, at + 0x800, times)  # of no module that is asked for
        with lines.unloading("mod"):
            machine.sections = {}
        _count(observed, counters, at, times + 5)
    lines.keep()
    ran = read_ran(observed.with_suffix(".modules"))
    assert ran == {str(module): {(".text.other", 0): (10 - 7) + (25 - 15)}}


def test_a_module_that_is_still_loaded(tmp_path: Path) -> None:
    """It is counted at the end, whatever has become of the guest."""
    module = compiled(tmp_path, HEAD + SOURCE, *LINES)
    observed = tmp_path / "guest.observed"
    head, size = make_head(ranges=[(MODULES[0], MODULES[0] + (1 << 16))])
    observed.write_bytes(head + bytes(size - len(head)))
    machine = _Machine(observed)
    machine.sections = {".text.other": MODULES[0]}
    lines = ModuleLines(cast("Machine", machine), [module], machine.module_watch)
    with lines.loading("mod", module):
        pass
    _count(observed, size - (8 << 16), MODULES[0] + 4, 1)
    machine.sections = {}
    lines.keep()
    ran = read_ran(observed.with_suffix(".modules"))
    assert ran == {str(module): {(".text.other", 4): 1}}
