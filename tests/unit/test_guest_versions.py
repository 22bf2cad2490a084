# SPDX-License-Identifier: GPL-2.0-only
"""klp_funcs that are read from a guest's memory."""

from __future__ import annotations

from harness.observer.guest_versions import GuestVersion, read_versions

OFFSETS = {
    "klp_func": {"old_name": 0, "new_func": 8, "nop": 16, "kobj": 24},
    "kobject": {"name": 0, "parent": 8},
}
FUNC, NAME, PARENT, OWNER, NEW = 0x1000, 0x2000, 0x3000, 0x4000, 0xFFFFFFFFA0000000


def memory_of(*, nop: int = 0, name: bytes = b"f\0", parent: int = PARENT) -> dict[int, int]:
    """Return a guest's memory with one klp_func, by bytes."""
    words = {
        FUNC: NAME,
        FUNC + 8: NEW,
        FUNC + 16: nop,
        FUNC + 32: parent,
        PARENT: OWNER,
    }
    found = {
        address + place: byte
        for address, word in words.items()
        for place, byte in enumerate(word.to_bytes(8, "little"))
    }
    texts = {NAME: name, OWNER: b"klp_target\0"}
    return found | {a + n: byte for a, text in texts.items() for n, byte in enumerate(text)}


def read(known: dict[int, int]) -> list[GuestVersion]:
    def memory(address: int, size: int) -> bytes:
        return bytes(known.get(address + place, 0) for place in range(size))

    return list(read_versions([FUNC], memory, OFFSETS))


def test_what_a_klp_func_is() -> None:
    """The function, the object by its directory in sysfs, and the new function."""
    found = GuestVersion(address=FUNC, object="klp_target", function="f", new=NEW)
    assert read(memory_of()) == [found]
    assert read(memory_of(name=b"f" * 100 + b"\0"))[0].function == "f" * 100


def test_what_is_left_out() -> None:
    """One that an atomic replace has made, and one of which something is missing."""
    assert read(memory_of(nop=1)) == []
    assert read(memory_of(parent=0)) == []
    assert read(memory_of(name=b"\0")) == []
    assert read(memory_of(name=b"f" * 2000)) == []
