# SPDX-License-Identifier: GPL-2.0-only
"""The new functions of a livepatch by what they replace, read from the module's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.tools.verify.code_graph import CodeGraph
from harness.vm.elf.klp_structs import NEW_FUNC, locate_patch
from harness.vm.elf.module_info import open_module, readable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def new_bodies(path: Path) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return the names that a new function has in the module, by the object and function patched.

    A function that is patched twice in one object, by sympos, is left out. Raises UsageError when
    the file is no module or damaged.
    """
    with readable(path):
        elf = open_module(path).elf
        layout = locate_patch(elf)
        if layout is None:
            return {}
        code = CodeGraph(elf)
        entries = {
            (place.section, place.offset + NEW_FUNC): (place.function.object, place.function.name)
            for target in layout.objects
            for place in target.functions
        }
        patched = list(entries.values())
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for number, relocations in elf.tables.items():
            source = elf.sections[number].info
            for offset, _, symbol, addend in relocations:
                key = entries.get((source, offset))
                place = (symbol.section, symbol.value + addend)
                function = code.starts.get(place) if symbol.defined_in is not None else None
                if key is not None and function is not None and patched.count(key) == 1:
                    found[key] = tuple(function.names)
        return found
