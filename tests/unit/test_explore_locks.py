# SPDX-License-Identifier: GPL-2.0-only
"""Which lock of A's somebody waits for, in memory of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.resources import Resource, resource_dir
from harness.tools.race.explore.duel import A_NAME, B_NAME
from harness.tools.race.explore.locks import (
    awaited_lock,
    name_offset,
    preempt_count,
    read_count,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

TASK, OTHER, B_TASK = 0xFFFF888000240000, 0xFFFF888000250000, 0xFFFF888000260000
# Who sleeps for a mutex, on stacks of their own.
FIRST, SECOND = 0x5000, 0x6000
HAS_WAITERS = 1
AT = {"klp_mutex": 0x100, "ftrace_lock": 0x200, "tasklist_lock": 0x300}


class Kernel:
    """Symbols, and what lies there."""

    debugs_locks = False

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


def awaited(
    memory: Mapping[int, int], symbols: Mapping[str, int] = AT, *, b_runs: bool = True
) -> int | None:
    kernel = cast("Any", Kernel(memory, symbols))
    return awaited_lock(kernel, kernel, TASK, 0, is_b=lambda task: task == B_TASK, b_runs=b_runs)


def sleeping(mutex: int, *tasks: int, through_the_mutex: bool) -> dict[int, int]:
    """Return the memory of those who sleep for a mutex, in a list through it or past it."""
    head = mutex + 16
    waiters = [FIRST, SECOND][: len(tasks)]
    last = head if through_the_mutex else FIRST
    memory = {head: waiters[0] if waiters else head if through_the_mutex else 0}
    for number, (waiter, task) in enumerate(zip(waiters, tasks, strict=True), start=1):
        memory |= {waiter: (*waiters, last)[number], waiter + 16: task}
    return memory


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
    """A has it, and B waits."""
    asleep = sleeping(0x200, B_TASK, through_the_mutex=True)
    assert awaited({0x200: owner, **asleep}) == found


@pytest.mark.parametrize("through_the_mutex", [True, False])
@pytest.mark.parametrize(
    ("tasks", "found"),
    [((B_TASK,), 0x200), ((OTHER, B_TASK), 0x200), ((OTHER,), None), ((), None)],
)
def test_who_waits_for_it(
    tasks: tuple[int, ...], found: int | None, *, through_the_mutex: bool
) -> None:
    """A worker may, while B is blocked by something else."""
    asleep = sleeping(0x200, *tasks, through_the_mutex=through_the_mutex)
    assert awaited({0x200: TASK | HAS_WAITERS, **asleep}) == found


def test_a_list_without_an_end() -> None:
    """Memory that is changed meanwhile, or is no mutex, is not read for ever."""
    memory = {0x200: TASK | HAS_WAITERS, 0x210: FIRST, FIRST: SECOND, SECOND: SECOND}
    assert awaited(memory) is None


def test_mutexes_with_debug_options() -> None:
    """Their members are elsewhere."""
    asleep = sleeping(0x200, B_TASK, through_the_mutex=True)
    kernel: Any = Kernel({0x200: TASK | HAS_WAITERS, **asleep})
    kernel.debugs_locks = True
    assert awaited_lock(kernel, kernel, TASK, 0, is_b=lambda _: True, b_runs=True) is None


def test_where_the_name_of_a_task_is() -> None:
    """It is found by the name that A has when it begins."""
    name = int.from_bytes(A_NAME, "little")
    kernel: Any = Kernel({TASK: name << 8 * 0x5B0})
    assert name_offset(kernel, TASK, A_NAME, 0) == 0x5B0
    assert name_offset(kernel, TASK, B_NAME, 0) is None
    source = (resource_dir(Resource.GUEST_PROGRAMS) / "klp_duel.c").read_text()
    for each in (A_NAME, B_NAME):
        assert f'"{each[:-1].decode()}"' in source


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
    """It is locked for writing, and B, which runs on the other CPU, wants it."""
    assert awaited({0x300: value}) == found
    assert awaited({0x300: value}, b_runs=False) is None


def test_a_kernel_without_one_of_them() -> None:
    """The others are looked at."""
    asleep = sleeping(0x100, B_TASK, through_the_mutex=False)
    assert awaited({0x100: TASK | HAS_WAITERS, **asleep}, {"klp_mutex": 0x100}) == 0x100
    assert awaited({}, {}) is None


@pytest.mark.parametrize(
    ("symbols", "at"), [({"__preempt_count": 0x28}, 0x28), ({"pcpu_hot": 0x40}, 0x48)]
)
def test_where_a_cpu_counts(symbols: Mapping[str, int], at: int) -> None:
    """The highest bit says something else."""
    kernel = cast("Any", Kernel({at: 0x80000002}, symbols))
    assert preempt_count(kernel) == at
    assert read_count(kernel, at, 0) == 2
