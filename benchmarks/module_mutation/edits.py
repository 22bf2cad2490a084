# SPDX-License-Identifier: GPL-2.0-only
"""The changes that mutants make to a livepatch's file, which is their last argument.

Places are a section's number and offsets in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.module_mutation.patch_file import FUNCS, NEW_FUNC, OBJECT_NAME, OLD_NAME, Callback
from harness.vm.elf.klp_structs import SYMPOS

if TYPE_CHECKING:
    from benchmarks.module_mutation.patch_file import LivepatchFile, StringUse
    from harness.vm.elf.klp_structs import FunctionPlace, ObjectPlace
    from harness.vm.elf.rewrite import Symbol


def swap(section: int, one: int, other: int, file: LivepatchFile) -> None:
    file.swap(section, one, other)


def point_like(section: int, pointer: int, like: int, file: LivepatchFile) -> None:
    file.elf.retarget(file.pointer(section, pointer), file.pointer(section, like))


def drop(section: int, offset: int, file: LivepatchFile) -> None:
    file.drop(section, offset)


def set_string(section: int, offset: int, text: str, file: LivepatchFile) -> None:
    file.set_string(section, offset, text)


def rename(place: FunctionPlace, name: str, file: LivepatchFile) -> None:
    file.set_string(place.section, place.offset + OLD_NAME, name)
    # It counts symbols of the old name.
    file.elf.set_word(place.section, place.offset + SYMPOS, 0)


def set_word(section: int, offset: int, value: int, file: LivepatchFile) -> None:
    file.elf.set_word(section, offset, value)


def set_byte(section: int, offset: int, value: int, file: LivepatchFile) -> None:
    file.elf.write(section, offset, bytes([value]))


def use_string(body: Symbol, use: StringUse, start: int, file: LivepatchFile) -> None:
    file.use_string(body, use, start)


def omit_function(place: FunctionPlace, file: LivepatchFile) -> None:
    file.drop(place.section, place.offset + OLD_NAME)
    file.drop(place.section, place.offset + NEW_FUNC)
    file.elf.set_word(place.section, place.offset + SYMPOS, 0)


def omit_object(place: ObjectPlace, file: LivepatchFile) -> None:
    for offset in (OBJECT_NAME, FUNCS, *(callback.value for callback in Callback)):
        file.drop(place.section, place.offset + offset)


def rename_klp_symbol(symbol: Symbol, name: str, file: LivepatchFile) -> None:
    file.rename_klp_symbol(symbol, name)
