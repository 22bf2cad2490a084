# SPDX-License-Identifier: GPL-2.0-only
"""Atomic replaces again and again, while tasks fork and call: nothing leaks."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.patch import Livepatch, Patch
from harness.tools.verify.scenes.leaks import count_vmalloc_areas, read_slabinfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel
    from tests.behaviours.conftest import Guestview

# A replace takes about a second, until the kernel's next try: four guests share the 100.
GUESTS = 4
CYCLES = 26
ROUNDS = 2
WARM_UP = 2
# Two patches without a common function: each has nops for the other's functions.
NAMES = ("klp_test_cmdline_a", "klp_test_target_fg")
# Several for each replace, and no more: in an emulated guest each wake-up is expensive.
FORK_US = "50000"
CALL_US = "200000"
CALLED = ("/proc/cmdline", "/sys/kernel/klp_target/pair")
COUNT = "echo 3 >/proc/sys/vm/drop_caches && cat /proc/slabinfo"
# KASAN keeps freed objects for a while, counted as used, until the cache is shrunk
# (mm/kasan/quarantine.c, kasan_cache_shrink()).
SHRINK = "for cache in /sys/kernel/slab/*/shrink; do echo 1 >$cache; done && "


@pytest.mark.slow(19)
@pytest.mark.needs("CONFIG_SLUB_DEBUG")
@pytest.mark.smp(1)
@pytest.mark.kernel_args("slub_debug=F")
@pytest.mark.behaviour("RP-13")
@pytest.mark.parametrize("first", range(GUESTS))
def test_nothing_leaks(
    guest: Machine, kernel: Kernel, livepatch: Livepatch, view: Guestview, first: int
) -> None:
    """Atomic replaces under forks and system calls leave no module, directory or object.

    The objects of each slab cache are counted before and after the load. A cache that has grown by
    an object for every second replace leaks, if it does so a second time: other tasks of the kernel
    may have taken as many. With slub_debug=F the counts are exact: no CPU keeps a slab whose free
    objects count as used (mm/slub.c).
    """
    counting = (SHRINK if kernel.config.enabled("KASAN") else "") + COUNT
    livepatch.load_target("klp_target_mod")
    patch = livepatch.load(NAMES[first % 2], wait=True, replace=True)
    for _ in range(WARM_UP):
        patch = _replaced(livepatch, patch)
    leaking: dict[str, int] | None = None
    for _ in range(ROUNDS):
        places, objects = _places(guest, view), _objects(guest, counting)
        patch = _stormed(guest, livepatch, patch)
        assert _places(guest, view) == places
        grown = _grown(guest, counting, objects)
        leaking = {name: grown[name] for name in grown if leaking is None or name in leaking}
        if not leaking:
            break
    assert not leaking, f"not freed: {leaking}"


def _stormed(guest: Machine, livepatch: Livepatch, patch: Patch) -> Patch:
    """Replace the patch an even number of times under forks and system calls."""
    load = [
        guest.spawn("klp-storm", FORK_US),
        *(guest.spawn("klp-caller", path, CALL_US) for path in CALLED),
    ]
    for _ in range(CYCLES):
        patch = _replaced(livepatch, patch)
    for process in load:
        process.signal(signal.SIGTERM)
        assert process.wait(guest.scaled(10)) == 0, process.program
    return patch


def _grown(guest: Machine, counting: str, before: Mapping[str, int]) -> dict[str, int]:
    """Return which caches have grown, once RCU and workqueues have freed what they will free."""
    grown: dict[str, int] = {}

    def settled() -> bool:
        grown.clear()
        grown.update(
            (name, count - before.get(name, 0))
            for name, count in _objects(guest, counting).items()
            if count - before.get(name, 0) >= CYCLES // 2
        )
        return not grown

    wait_until(settled, guest.scaled(10), interval_s=0.5)
    return grown


def _replaced(livepatch: Livepatch, old: Patch) -> Patch:
    """Replace the patch by the other one and unload it."""
    (name,) = (name for name in NAMES if name != old.name)
    new = livepatch.load(name, wait=True, replace=True)
    old.unload()
    return new


def _places(guest: Machine, view: Guestview) -> tuple[set[str], list[list[str]], str]:
    """Return the modules, the directories of modules and patches, the hooked functions."""
    folders = ("/sys/module", "/sys/kernel/livepatch")
    names = [[entry.name for entry in guest.list_dir(folder)] for folder in folders]
    # Without addresses: each hook gets a new trampoline.
    return view.modules(), names, re.sub("0x[0-9a-f]+", "0x", view.enabled_functions())


def _objects(guest: Machine, counting: str) -> Mapping[str, int]:
    """Return how many objects of each slab cache are in use, and how many areas vmalloc has."""
    counted = guest.run(["sh", "-c", counting], deadline=guest.scaled(30))
    assert counted.ok, counted.stderr
    objects = dict(read_slabinfo(counted.stdout))
    # The areas are counted below, those that are freed late apart.
    objects.pop("vmap_area", None)
    objects["vmalloc areas"] = count_vmalloc_areas(guest.read("/proc/vmallocinfo"))
    return objects
