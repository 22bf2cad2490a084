# SPDX-License-Identifier: GPL-2.0-only
"""The lock that A holds while B waits for it, and whether A may lose its CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
_OWNER_SIZE, _FLAGS, _HAS_WAITERS = 8, 7, 1
# Whoever forks or ends writes the list of tasks under it; transitions read that.
_RWLOCK = "tasklist_lock"
# struct qrwlock: a count, and a lock of those who wait (include/asm-generic/qrwlock.h).
_WRITE_LOCKED, _RWLOCK_SIZE = 0xFF, 8
# PREEMPT_NEED_RESCHED (arch/x86/include/asm/preempt.h) is no part of the count.
_COUNT = 0x7FFFFFFF
_IN_HOT = 8


def awaited_lock(gdb: GdbClient, code: KernelCode, a_task: int, cpu: int) -> int | None:
    """Return the address of a lock that A, on that CPU, holds and somebody waits for.

    None: it is none of those that are known here, or there is none.
    """
    for name in _MUTEXES:
        if code.has(name):
            address = code.symbol(name)
            owner = int.from_bytes(gdb.read(address, _OWNER_SIZE, cpu), "little")
            if owner & ~_FLAGS == a_task and owner & _HAS_WAITERS:
                return address
    if not code.has(_RWLOCK):
        return None
    address = code.symbol(_RWLOCK)
    value = int.from_bytes(gdb.read(address, _RWLOCK_SIZE, cpu), "little")
    return address if value & _WRITE_LOCKED == _WRITE_LOCKED and value > _WRITE_LOCKED else None


def preempt_count(code: KernelCode) -> int:
    """Return how far from the base of a CPU's own data its count of reasons to stay is."""
    # From 6.2 to 6.14 it is the second member of struct pcpu_hot.
    if code.has("__preempt_count"):
        return code.percpu("__preempt_count")
    return code.percpu("pcpu_hot") + _IN_HOT


def read_count(gdb: GdbClient, address: int, cpu: int) -> int:
    """Return such a count; with 0 the CPU can go to another task."""
    return int.from_bytes(gdb.read(address, 4, cpu), "little") & _COUNT
