# SPDX-License-Identifier: GPL-2.0-only
"""What the model of consistency is made of: versions of functions, their bodies, violations."""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

Item = TypeVar("Item")

Key = tuple[str, str]
"""A function: its object (``vmlinux`` or a module) and its name."""


@dataclass(kw_only=True, eq=False)
class Version:
    """One klp_func: the function that a livepatch replaces. ``nop``: its patch restores it.

    ``patched`` follows its object, which may not be loaded, and ``enabled`` the livepatch. It is
    there from the event of the number ``since`` on.
    """

    key: Key
    patch: str
    nop: bool = False
    transition: bool = False
    patched: bool = False
    enabled: bool = False
    since: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """The code of a version of a function; that of ``version`` None is the original one.

    ``is_left``: each way out of it is seen. Where it may be left by a jump, that is not so.
    ``since`` is the number of the event from which on it is there. ``also`` are further functions
    that it is a version of: which of them is called cannot be seen.
    """

    key: Key
    parts: tuple[tuple[int, int], ...]
    module: str | None
    version: Version | None = None
    is_left: bool = True
    since: int = 0
    also: tuple[tuple[Key, Version], ...] = ()

    @property
    def roles(self) -> tuple[tuple[Key, Version | None], ...]:
        """The functions that it may be called as, and the version of each that it is."""
        return ((self.key, self.version), *self.also)

    def holds(self, address: int) -> bool:
        """Return whether an address is in it."""
        return any(start <= address < end for start, end in self.parts)


class Inside:
    """A task is inside a body; ``excused``: a forced transition has ended meanwhile."""

    __slots__ = ("body", "excused")

    def __init__(self, body: Body) -> None:
        self.body = body
        self.excused = False


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A violation: by a task, at a clock, and what it did. ``ago`` counts instructions."""

    rule: str
    task: int
    cpu: int
    clock: int
    what: str
    ago: int | None = None


@dataclass(kw_only=True)
class Verdict:
    """What a guest's events show. ``kinds`` counts all violations, ``violations`` has the first.

    ``entries`` has those that were reported, by the body; ``repeated`` more were the same as one of
    them. ``events`` is how many of all kinds were judged. ``unknown`` entries were by a task that
    is not known. ``unknown_versions`` are klp_funcs of which no file says what they replace: their
    functions are not judged.
    """

    violations: list[Violation] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    entries: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    events: int = 0
    transitions: int = 0
    unknown: int = 0
    unknown_versions: int = 0

    @property
    def holds(self) -> bool:
        """Whether there is no violation."""
        return not self.kinds


class Places(Generic[Item]):
    """Items by address, each from the number of an event on: text of modules is used again."""

    def __init__(self) -> None:
        self._items: dict[int, list[tuple[int, Item]]] = {}

    def add(self, since: int, address: int, item: Item) -> None:
        found = self._items.setdefault(address, [])
        bisect.insort(found, (since, item), key=lambda each: each[0])

    def at(self, number: int, address: int) -> Item | None:
        found = self._items.get(address)
        if not found:
            return None
        place = bisect.bisect_right(found, number, key=lambda each: each[0])
        return found[place - 1][1] if place else None

    def all_at(self, number: int) -> Iterator[tuple[int, Item]]:
        """Yield each address with its item at that number."""
        for address in self._items:
            item = self.at(number, address)
            if item is not None:
                yield address, item
