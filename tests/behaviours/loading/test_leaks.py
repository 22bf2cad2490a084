# SPDX-License-Identifier: GPL-2.0-only
"""What the core has allocated for a livepatch, when the livepatch is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

TARGET, MANY, REPLACING = "klp_target_many", "klp_test_many", "klp_test_cmdline_a"
SLABS = "/sys/kernel/slab"
FUNCTIONS, ROUNDS = 40, 2
FREED_S = 20


@pytest.mark.slow(20)
@pytest.mark.usefixtures("gate")
@pytest.mark.behaviour("LD-14")
def test_nothing_is_left_of_many_functions(guest: Machine, livepatch: Livepatch) -> None:
    """Neither of their handlers with the filters of ftrace, nor of the nops that replaced them.

    Objects of the slab caches are counted after a first round, which fills what the kernel keeps.
    What is allocated for each function and not freed is more than the noise.
    """
    livepatch.load_target(TARGET)

    def load_replace_and_disable() -> None:
        livepatch.load(MANY, wait=True, functions=FUNCTIONS)
        patch = livepatch.load(REPLACING, wait=True, replace=True)
        livepatch.module(MANY).unload()
        patch.disable()
        patch.unload()

    load_replace_and_disable()
    before = _objects(guest)
    for _ in range(ROUNDS):
        load_replace_and_disable()
    left: dict[str, int] = {}

    def is_freed() -> bool:
        now = _objects(guest)
        left.update({name: now[name] - count for name, count in before.items()})
        return max(left.values()) < ROUNDS * FUNCTIONS * 2 // 3

    assert wait_until(is_freed, guest.scaled(FREED_S), interval_s=0.5), {
        name: count for name, count in left.items() if count > FUNCTIONS
    }


def _objects(guest: Machine) -> dict[str, int]:
    """Return how many objects each cache of kmalloc() has in use.

    What CPUs keep of free objects counts as used, so it is given back first.
    """
    for cache in guest.list_dir(SLABS):
        if cache.name.startswith("kmalloc-"):
            guest.write(f"{SLABS}/{cache.name}/shrink", "1\n")
    lines = (line.split() for line in guest.read("/proc/slabinfo").splitlines())
    return {name: int(used) for name, used, *_ in lines if name.startswith("kmalloc-")}
