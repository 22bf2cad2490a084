# SPDX-License-Identifier: GPL-2.0-only
"""klp_funcs that a livepatch fills when it runs: read from the memory of the guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Memory = Callable[[int, int], bytes]

FIELDS = {
    "klp_func": ("old_name", "new_func", "kobj", "nop"),
    "kobject": ("name", "parent"),
}
"""The fields that are read, by structure: `read_offsets` finds out where they are."""

_POINTER = 8
_NAME_BYTES = 512
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class GuestVersion:
    """A klp_func at an address: the function that it replaces, and where the new one begins."""

    address: int
    object: str
    function: str
    new: int


def read_versions(
    addresses: Iterable[int], memory: Memory, offsets: Mapping[str, Mapping[str, int]]
) -> Iterator[GuestVersion]:
    """Yield what the klp_funcs at some addresses are, but those that an atomic replace has made.

    ``memory(address, bytes)`` reads the guest's. One that cannot be read is left out, too.
    """
    func, kobject = offsets["klp_func"], offsets["kobject"]

    def pointer(address: int) -> int:
        return int.from_bytes(memory(address, _POINTER), "little")

    for address in addresses:
        if memory(address + func["nop"], 1) != b"\0":
            continue
        name = _text(pointer(address + func["old_name"]), memory)
        # A klp_func is below its klp_object in sysfs, whose directory has the object's name.
        parent = pointer(address + func["kobj"] + kobject["parent"])
        owner = _text(pointer(parent + kobject["name"]), memory) if parent else ""
        new = pointer(address + func["new_func"])
        if name and owner and new:
            yield GuestVersion(address=address, object=owner, function=name, new=new)


def _text(address: int, memory: Memory) -> str:
    """Return the string at an address; an empty one when it cannot be read."""
    found = b""
    while address and len(found) < _NAME_BYTES:
        part = memory(address + len(found), _AT_ONCE)
        found += part
        if b"\0" in part or len(part) < _AT_ONCE:
            break
    text, end, _ = found.partition(b"\0")
    return text.decode(errors="replace") if end else ""
