# SPDX-License-Identifier: GPL-2.0-only
"""The functions of a module that nothing uses.

A function is used by a pointer in data (klp_func, callbacks, parameters, exports,
__this_module), or by code that is used itself. In doubt a reference counts, so that too few
functions are found rather than too many.
"""

from __future__ import annotations

import bisect
import re
from typing import TYPE_CHECKING

from harness.tools.verify.code_graph import CodeGraph
from harness.vm.elf.klp_structs import function_lists
from harness.vm.elf.module_info import open_module, readable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.tools.verify.code_graph import Function, Place
    from harness.vm.elf.elf_file import ElfFile

_INIT_OR_EXIT = re.compile(r"\.(init|exit)\b")
# objtool's padding before a function, and parts that gcc moved out of one.
_PARTS = re.compile(r"__(pfx|cfi)_|.*\.cold(\.\d+)?\Z")


def unused_functions(path: Path) -> tuple[str, ...]:
    """Return the functions of a livepatch that nothing uses, in the order of its sections.

    Functions of init and exit sections, and parts that the compiler split off, count as used.
    Raises UsageError when it is no module or damaged.
    """
    with readable(path):
        return _Module(open_module(path).elf).unused()


class _Module:
    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._code = CodeGraph(elf)
        self._orphans = self._orphan_lists()

    def unused(self) -> tuple[str, ...]:
        """Return the functions that are not reached from data or from init and exit code."""
        code = self._code
        references: dict[Place | None, set[Place]] = {}
        for source, target in (*self._pointers(), *code.near_calls):
            references.setdefault(source, set()).add(target)
        roots = [place for place, each in code.starts.items() if self._is_root(each)]
        reached = code.reached_from([*roots, None], references)
        return tuple(
            dict.fromkeys(
                name
                for place, each in code.starts.items()
                if place not in reached
                for name in each.names
            )
        )

    def _is_root(self, function: Function) -> bool:
        section = self._elf.sections[function.section].name
        return bool(
            _INIT_OR_EXIT.match(section) or any(_PARTS.match(name) for name in function.names)
        )

    def _pointers(self) -> Iterator[tuple[Place | None, Place]]:
        """Yield which function uses which by a relocation; None stands for data."""
        for source, offset, target in self._code.relocations():
            if target in self._code.starts and not self._is_in_orphan(source, offset):
                yield self._code.function_at(source, offset), target

    def _is_in_orphan(self, section: int, offset: int) -> bool:
        place = bisect.bisect_right(self._orphans, (section, offset, float("inf"))) - 1
        if place < 0:
            return False
        where, start, end = self._orphans[place]
        return where == section and start <= offset < end

    def _orphan_lists(self) -> list[tuple[int, int, int]]:
        """Return the places of arrays of klp_func that no object of the patch points to, sorted."""
        lists = function_lists(self._elf)
        if not lists:
            return []
        pointed = sorted({target for _, _, target in self._code.relocations()})

        def is_pointed_to(section: int, start: int, end: int) -> bool:
            place = bisect.bisect_left(pointed, (section, start))
            return place < len(pointed) and pointed[place] < (section, end)

        return sorted(each for each in lists if not is_pointed_to(*each))
