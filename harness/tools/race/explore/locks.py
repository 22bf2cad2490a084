# SPDX-License-Identifier: GPL-2.0-only
"""The lock that A holds while B waits for it, and whether A may lose its CPU.

Members of the kernel's structures are found where they are without debug options of locks; a kernel
with these has no lock that is known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.tools.race.explore.kernel_code import KernelCode
    from harness.vm.guest.gdb_client import GdbClient

# What livepatches, modules, the function tracer and kprobes are changed under.
_MUTEXES = (
    "klp_mutex",
    "module_mutex",
    "ftrace_lock",
    "text_mutex",
    "event_mutex",
    "trace_types_lock",
    "kprobe_mutex",
)
# struct mutex begins with its owner, whose lowest bits are flags (kernel/locking/mutex.h).
_FLAGS, _HAS_WAITERS = 7, 1
# Behind it are two words of 4 bytes, and then the first who waits: a list of struct mutex_waiter,
# each of which begins with its links, and the task. In 6.12 the mutex is in that list itself, in
# 7.2 it is not.
_FIRST, _NEXT, _WAITING_TASK = 16, 0, 16
_WORD, _MOST_WAITERS = 8, 16
# Whoever forks or ends writes the list of tasks under it; transitions read that.
_RWLOCK = "tasklist_lock"
# struct qrwlock: a count, and a lock of those who wait (include/asm-generic/qrwlock.h).
_WRITE_LOCKED, _RWLOCK_SIZE = 0xFF, 8
# PREEMPT_NEED_RESCHED (arch/x86/include/asm/preempt.h) is no part of the count.
_COUNT = 0x7FFFFFFF
_IN_HOT = 8
# A task's name is within its first bytes (struct task_struct, comm).
_TASK_BYTES = 4096


def awaited_lock(
    gdb: GdbClient,
    code: KernelCode,
    a_task: int,
    cpu: int,
    *,
    is_b: Callable[[int], bool],
    b_runs: bool,
) -> int | None:
    """Return the address of a lock that A, on that CPU, holds and B waits for.

    ``is_b`` returns whether a task is B, and ``b_runs`` says whether the other CPU executes B.
    None: it is none of those that are known here, or there is none.
    """
    if code.debugs_locks:
        return None
    for name in _MUTEXES:
        if code.has(name):
            address = code.symbol(name)
            owner = _word(gdb, address, cpu)
            if owner & ~_FLAGS == a_task and owner & _HAS_WAITERS:
                return address if any(map(is_b, _waiters(gdb, address, cpu))) else None
    if not code.has(_RWLOCK):
        return None
    address = code.symbol(_RWLOCK)
    value = int.from_bytes(gdb.read(address, _RWLOCK_SIZE, cpu), "little")
    is_wanted = value & _WRITE_LOCKED == _WRITE_LOCKED and value > _WRITE_LOCKED
    return address if is_wanted and b_runs else None


def _waiters(gdb: GdbClient, mutex: int, cpu: int) -> Iterator[int]:
    """Yield the tasks that sleep for a mutex which somebody has."""
    head = mutex + _FIRST
    first = waiter = _word(gdb, head, cpu)
    for _ in range(_MOST_WAITERS):
        if waiter in (0, head):
            return
        yield _word(gdb, waiter + _WAITING_TASK, cpu)
        waiter = _word(gdb, waiter + _NEXT, cpu)
        if waiter == first:
            return


def _word(gdb: GdbClient, address: int, cpu: int) -> int:
    return int.from_bytes(gdb.read(address, _WORD, cpu), "little")


def name_offset(gdb: GdbClient, task: int, name: bytes, cpu: int) -> int | None:
    """Return how far from a task's beginning its name is, by that name; None without one there."""
    at = gdb.read(task, _TASK_BYTES, cpu).find(name)
    return at if at >= 0 else None


def preempt_count(code: KernelCode) -> int:
    """Return how far from the base of a CPU's own data its count of reasons to stay is."""
    # From 6.2 to 6.14 it is the second member of struct pcpu_hot.
    if code.has("__preempt_count"):
        return code.percpu("__preempt_count")
    return code.percpu("pcpu_hot") + _IN_HOT


def read_count(gdb: GdbClient, address: int, cpu: int) -> int:
    """Return such a count; with 0 the CPU can go to another task."""
    return int.from_bytes(gdb.read(address, 4, cpu), "little") & _COUNT
