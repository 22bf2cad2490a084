# SPDX-License-Identifier: GPL-2.0-only
"""Where the kernel's code shows consistency: its stores to patch states and to klp_func.

All is found in the image by the offsets of the fields, which DWARF has, so that it is the kernel's
own code that is read, and not what somebody believes it to be.
"""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile
from pydantic import BaseModel, ConfigDict

from harness.errors import HarnessError
from harness.observer.debug_objects import compile_again
from harness.observer.guest_versions import FIELDS
from harness.observer.image import Image, image_of
from harness.observer.shared_file import Function, FunctionFlag, Kind, Point
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.observer.image import Instruction
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

KIND = "consistency-points"
FENTRY_BYTES = 5
_FORMAT = 4
_HOOKS = ("ftrace_caller", "ftrace_regs_caller", "__fentry__")
_FILE = "points.json"
_CORE = re.compile(r"(?:__)?klp_")
_SET_BYTE = re.compile(r"movb +\$0x([01]),(?:0x[0-9a-f]+)?\(%\w+\)$")
_SET = re.compile(r"mov\w* +.*,0x([0-9a-f]+)\((?:%\w+)(?:,%\w+(?:,\d)?)?\)$")
_WANTED = {
    "task_struct": ("patch_state", "pid", "comm"),
    "klp_func": ("patched", "transition", *FIELDS["klp_func"]),
    "kobject": FIELDS["kobject"],
}


class Step(StrEnum):
    """Functions whose entry says what a transition does, a task's end, or that of a module's text.

    The last are no steps of the model: with them the plugin reports who is inside of which text.
    """

    INIT = "klp_init_transition"
    REVERSE = "klp_reverse_transition"
    CANCEL = "klp_cancel_transition"
    FORCE = "klp_force_transition"
    COMPLETE = "klp_complete_transition"
    DEATH = "do_task_dead"
    UNLOAD = "__x64_sys_delete_module"
    FREE = "free_module"


class ByteStore(BaseModel):
    """A store of a constant byte, which may be to ``patched`` or ``transition`` of a klp_func."""

    model_config = ConfigDict(frozen=True)

    value: bool
    function: str


class OriginalFunction(BaseModel):
    """A function of the image that a livepatch may replace: where its body begins and ends.

    ``parts`` are its own range and that of its cold part. ``is_left``: ``returns`` are all ways out
    of it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    body: int
    parts: tuple[tuple[int, int], ...]
    returns: tuple[int, ...]
    is_left: bool


class ConsistencyPoints(BaseModel):
    """What to observe of one kernel, by addresses. ``offsets`` are those of fields, in bytes.

    ``hooks`` is what the first instruction of a traced function may call in the image; ftrace's
    other trampolines are where modules are (arch_ftrace_update_trampoline()).
    """

    model_config = ConfigDict(frozen=True)

    offsets: dict[str, dict[str, int]]
    switch: int
    steps: dict[int, Step]
    state_stores: dict[int, str]
    byte_stores: dict[int, ByteStore]
    originals: tuple[OriginalFunction, ...]
    return_thunk: int
    hooks: tuple[int, ...]

    def points(self) -> list[Point]:
        """Return the points for the plugin."""
        stores = {**self.state_stores, **self.byte_stores}
        return [
            Point(self.switch, Kind.SWITCH),
            *(Point(address, Kind.POINT) for address in self.steps),
            *(Point(address, Kind.STORE) for address in stores),
            *(Point(each.body, Kind.BODY) for each in self.originals),
            *(Point(address, Kind.RETURN) for each in self.originals for address in each.returns),
        ]

    def functions(self) -> Iterator[Function]:
        """Yield what the plugin is to know of the image's functions."""
        for each in self.originals:
            flags = FunctionFlag.IS_LEFT if each.is_left else FunctionFlag(0)
            for start, end in each.parts:
                yield Function(start, end, each.body, flags)


def obtain_points(
    kernel: Kernel, functions: Sequence[str], *, store: Store, deadline: Deadline
) -> ConsistencyPoints:
    """Return what to observe for livepatches of those functions of the image; cached.

    Raises UsageError for a kernel without symbols, HarnessError when its code is not understood.
    """
    image = image_of(kernel)
    asked = json.dumps([_FORMAT, kernel.digest, sorted(set(functions))])

    def fill(folder: Path) -> None:
        found = _find(kernel, image, sorted(set(functions)), deadline)
        (folder / _FILE).write_text(found.model_dump_json())

    key = hashlib.sha256(asked.encode()).hexdigest()[:16]
    entry = store.obtain(KIND, key, fill, deadline=deadline)
    return ConsistencyPoints.model_validate_json((entry / _FILE).read_bytes())


def _find(
    kernel: Kernel, image: Image, functions: Sequence[str], deadline: Deadline
) -> ConsistencyPoints:
    offsets = _offsets(kernel, deadline)
    loads = [
        insn for insn in image.function("__switch_to_asm") if insn.data.startswith(b"\x48\x8b\xa6")
    ]
    steps = {_entry(image, step): step for step in Step if image.symbols.named(step)}
    core = {
        name: _code(image, name)
        for name in image.symbols.function_names()
        if _CORE.match(name) and image.symbols.named(name)[0].size
    }
    state = offsets["task_struct"]["patch_state"]
    state_stores = {
        insn.address: name
        for name, code in core.items()
        for insn in code
        if (match := _SET.match(insn.text)) and int(match[1], 16) == state
    }
    if len(loads) != 1 or Step.INIT not in steps.values() or not state_stores:
        raise HarnessError(
            f"the code of {kernel.describe()} is not understood: where tasks switch is not found",
            hint="the oracle knows the kernels 5.10 to 7.2, and others that are like them",
        )
    byte_stores = {
        insn.address: ByteStore(value=match[1] == "1", function=name)
        for name, code in core.items()
        for insn in code
        if (match := _SET_BYTE.match(insn.text))
    }
    thunks = image.symbols.named("__x86_return_thunk")
    return ConsistencyPoints(
        offsets=offsets,
        switch=loads[0].address,
        steps=steps,
        state_stores=state_stores,
        byte_stores=byte_stores,
        originals=tuple(_originals(image, functions)),
        return_thunk=thunks[0].address if thunks else 0,
        hooks=tuple(each.address for name in _HOOKS for each in image.symbols.named(name)),
    )


def _entry(image: Image, name: str) -> int:
    return image.symbols.named(name)[0].address


def _code(image: Image, name: str) -> tuple[Instruction, ...]:
    return tuple(
        insn
        for each in image.symbols.named(name)
        if each.size
        for insn in image.instructions(each.address, each.address + each.size)
    )


def _originals(image: Image, functions: Sequence[str]) -> Iterator[OriginalFunction]:
    """Yield the functions that can be observed: of one name, traceable, and left by returns."""
    for name in functions:
        found = [each for each in image.symbols.named(name) if each.size and each.is_function]
        if len(found) != 1 or not image.symbols.is_traceable(found[0]):
            continue
        start = found[0].address
        parts = [(start, start + found[0].size)]
        parts += [
            (cold.address, cold.address + cold.size) for cold in image.symbols.named(f"{name}.cold")
        ]
        code = [insn for part in parts for insn in image.instructions(*part)]
        body = body_of(start, [insn.data for insn in code[:2]])
        thunk = image.symbols.named("__x86_return_thunk")
        ends = thunk[0].address if thunk else 0
        returns, is_left = exits(code, parts, ends)
        if body is not None:
            yield OriginalFunction(
                name=name,
                body=body,
                parts=tuple(parts),
                returns=tuple(returns),
                is_left=is_left,
            )


def body_of(start: int, first: Sequence[bytes]) -> int | None:
    """Return where a function goes on behind its fentry; None when it does not begin with one."""
    at = start
    for data in first:
        if len(data) == FENTRY_BYTES and (data[0] == 0xE8 or data == b"\x0f\x1f\x44\x00\x00"):
            return at + FENTRY_BYTES
        if data != b"\xf3\x0f\x1e\xfa":  # endbr64
            return None
        at += len(data)
    return None


def exits(
    code: Sequence[Instruction], parts: Sequence[tuple[int, int]], thunk: int
) -> tuple[list[int], bool]:
    """Return where a function is left, and whether that is all.

    A jump to another function leaves it as a return does. One that depends on a condition, and one
    to an address in a register, may or may not.
    """
    found, is_all = [], True
    for insn in code:
        if insn.name in ("ret", "repz") or (insn.target == thunk and thunk):
            found.append(insn.address)
        elif insn.target is not None:
            if any(start <= insn.target < end for start, end in parts):
                continue
            if insn.name == "jmp":
                found.append(insn.address)
            else:
                is_all = False
        elif insn.name in ("jmp", "notrack"):
            is_all = False
    return found, is_all


def _offsets(kernel: Kernel, deadline: Deadline) -> dict[str, dict[str, int]]:
    command = kernel.build_dir / "kernel/livepatch/.transition.o.cmd"
    if not command.is_file():
        raise HarnessError(f"{kernel.describe()} has no build of kernel/livepatch to read")
    with temporary_folder("dwarf") as folder:
        found = read_offsets(compile_again(command, kernel, folder, deadline), _WANTED)
    for structure, fields in _WANTED.items():
        if set(found.get(structure, {})) != set(fields):
            raise HarnessError(f"DWARF of {kernel.describe()} does not have {structure}")
    return found


def read_offsets(made: Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """Return the offsets of some fields of structures, by the DWARF of an object."""
    found: dict[str, dict[str, int]] = {}
    with made.open("rb") as file:
        for unit in ELFFile(file).get_dwarf_info().iter_CUs():
            for die in unit.get_top_DIE().iter_children():
                name = _name(die)
                if die.tag != "DW_TAG_structure_type" or name not in wanted:
                    continue
                if not die.has_children:
                    continue
                found[name] = {
                    _name(child): child.attributes["DW_AT_data_member_location"].value
                    for child in die.iter_children()
                    if _name(child) in wanted[name]
                }
                if len(found) == len(wanted):
                    return found
    return found


def _name(die: object) -> str:
    attributes = getattr(die, "attributes", {})
    return attributes["DW_AT_name"].value.decode() if "DW_AT_name" in attributes else ""
