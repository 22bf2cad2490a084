# SPDX-License-Identifier: GPL-2.0-only
"""How much memory of the kernel's allocator is in use in a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import wait_until

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

EXACTLY = ("slub_debug=FP,kmalloc-*", "slab_debug=FP,kmalloc-*")
"""Arguments of the kernel (before 6.9, and since) with which `objects_in_use` is exact.

A CPU keeps a whole slab of a cache, whose free objects count as used; of one that is checked, none.
Freed memory is overwritten, so whoever uses it still does not find what was there.
"""

FREED_S = 6


def objects_in_use(guest: Machine) -> dict[str, int]:
    """Return how many objects each cache of kmalloc() has in use."""
    lines = (line.split() for line in guest.read("/proc/slabinfo").splitlines())
    return {name: int(used) for name, used, *_ in lines if name.startswith("kmalloc-")}


def left_in_use(guest: Machine, before: dict[str, int], *, fewer_than: int) -> dict[str, int]:
    """Return the caches that keep so many objects more than before, once the kernel had time."""
    left: dict[str, int] = {}

    def is_freed() -> bool:
        now = objects_in_use(guest)
        left.update({name: now[name] - count for name, count in before.items()})
        return max(left.values()) < fewer_than

    wait_until(is_freed, guest.scaled(FREED_S), interval_s=0.5)
    return {name: count for name, count in left.items() if count >= fewer_than}
