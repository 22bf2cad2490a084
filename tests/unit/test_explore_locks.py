# SPDX-License-Identifier: GPL-2.0-only
"""Which lock of A's somebody waits for, in memory of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.tools.race.explore.locks import awaited_lock, preempt_count, read_count

if TYPE_CHECKING:
    from collections.abc import Mapping

TASK, OTHER = 0xFFFF888000240000, 0xFFFF888000250000
HAS_WAITERS = 1
AT = {"klp_mutex": 0x100, "ftrace_lock": 0x200, "tasklist_lock": 0x300}


class Kernel:
    """Symbols, and what lies there."""

    def __init__(self, memory: Mapping[int, int], symbols: Mapping[str, int] = AT) -> None:
        self._memory = memory
        self._symbols = symbols

    def has(self, name: str) -> bool:
        return name in self._symbols

    def symbol(self, name: str) -> int:
        return self._symbols[name]

    percpu = symbol

    def read(self, address: int, size: int, cpu: int) -> bytes:
        assert cpu == 0
        value = self._memory.get(address, 0) & ((1 << 8 * size) - 1)
        return value.to_bytes(size, "little")


def awaited(memory: Mapping[int, int], symbols: Mapping[str, int] = AT) -> int | None:
    kernel = cast("Any", Kernel(memory, symbols))
    return awaited_lock(kernel, kernel, TASK, 0)


@pytest.mark.parametrize(
    ("owner", "found"),
    [
        (TASK | HAS_WAITERS, 0x200),
        (TASK | HAS_WAITERS | 4, 0x200),
        (TASK, None),
        (OTHER | HAS_WAITERS, None),
        (HAS_WAITERS, None),
        (0, None),
    ],
)
def test_a_mutex(owner: int, found: int | None) -> None:
    """A has it, and another task waits."""
    assert awaited({0x200: owner}) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (0xFF, None),
        (0x2FF, 0x300),  # a reader
        (0x1FF, 0x300),  # a writer
        (0xFF | 1 << 32, 0x300),  # the queue's own lock
        (0x200, None),  # it is read
        (0, None),
    ],
)
def test_the_list_of_tasks(value: int, found: int | None) -> None:
    """It is locked for writing, and somebody else wants it."""
    assert awaited({0x300: value}) == found


def test_a_kernel_without_one_of_them() -> None:
    """The others are looked at."""
    assert awaited({0x100: TASK | HAS_WAITERS}, {"klp_mutex": 0x100}) == 0x100
    assert awaited({}, {}) is None


@pytest.mark.parametrize(
    ("symbols", "at"), [({"__preempt_count": 0x28}, 0x28), ({"pcpu_hot": 0x40}, 0x48)]
)
def test_where_a_cpu_counts(symbols: Mapping[str, int], at: int) -> None:
    """The highest bit says something else."""
    kernel = cast("Any", Kernel({at: 0x80000002}, symbols))
    assert preempt_count(kernel) == at
    assert read_count(kernel, at, 0) == 2
