# SPDX-License-Identifier: GPL-2.0-only
"""Functions of the kernel in which a CPU waits, by which it is seen that B is blocked."""

from __future__ import annotations

AWAITS_IPI = frozenset({"smp_call_function_many_cond", "smp_call_function_single", "csd_lock_wait"})
"""The CPU waits for another one's interrupt handler."""

IDLE = frozenset(
    {
        "default_idle",
        "acpi_idle_do_entry",
        "acpi_safe_halt",
        "default_idle_call",
        "arch_cpu_idle",
        "native_safe_halt",
        "pv_native_safe_halt",
        "mwait_idle",
        "amd_e400_idle",
    }
)
"""It has nothing to do: whoever was there sleeps."""

WAITS = IDLE | {
    "native_queued_spin_lock_slowpath",
    "queued_spin_lock_slowpath",
    "queued_write_lock_slowpath",
    "queued_read_lock_slowpath",
    "_raw_spin_lock",
    "__mutex_lock",
    "mutex_spin_on_owner",
    "osq_lock",
    "rwsem_spin_on_owner",
    "rwsem_optimistic_spin",
    "multi_cpu_stop",
    "rcu_momentary_dyntick_idle",
    "rcu_momentary_eqs",
}
"""It waits for something, asleep or not."""
