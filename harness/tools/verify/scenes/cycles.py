# SPDX-License-Identifier: GPL-2.0-only
"""The patch is loaded and unloaded many times; nothing may grow.

The guest has one CPU: there a transition ends at once, because no other CPU is in its idle task, so
that many cycles take no longer than a few do with two.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.tools.verify.scenes.calls import exercise
from harness.tools.verify.scenes.expect import left_behind
from harness.tools.verify.scenes.guest_state import read_hooks, read_state
from harness.tools.verify.scenes.leaks import Count, count_vmalloc_areas, find_growth, read_slabinfo
from harness.tools.verify.step import Failed
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from harness.tools.verify.scene import Scene
    from harness.tools.verify.scenes.guest_state import GuestState
    from harness.vm.guest.machine import Machine

CPUS = 1
_WARM_UP = 5
_COUNTS = 5
_EARLY = (3, 6)
_BUDGET_S = 30.0
_THOROUGH_BUDGET_S = 900.0
_LEAST_CYCLES = 6
# When one takes all the time there is, as that of a patch of hundreds of functions.
_LEAST_LONG_CYCLES = 2
# The allocators first give back what they keep for later, or it would count as in use.
_SHRINK = """
sync
echo 3 >/proc/sys/vm/drop_caches
for cache in /sys/kernel/slab/*; do
    [ -L "$cache" ] || echo 1 >"$cache/shrink"
done 2>/dev/null
cat /proc/slabinfo
"""
_MEMINFO = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
_PAGE_KIB = 4


def many_cycles(scene: Scene) -> None:
    """Load and unload the patch as often as asked for; look for what has grown; then use it."""
    scene.load_targets()
    _load_and_unload(scene)
    exercise(scene, _count)


def _load_and_unload(scene: Scene) -> None:
    counts: list[Count] = []
    done = 0
    with scene.step("cycles") as step:
        wanted = scene.case.request.cycles
        budget_s = _THOROUGH_BUDGET_S if scene.case.request.thorough else _BUDGET_S
        deadline = Deadline.after(budget_s * max(1.0, scene.machine.time_scale / 2))
        before: GuestState | None = None
        marks = when_to_count(wanted)
        least = _LEAST_CYCLES
        while done < wanted and not (deadline.expired and done >= least):
            scene.remove(scene.enable())
            done += 1
            if done == 1 and deadline.expired:
                least = _LEAST_LONG_CYCLES
            if done in marks or (deadline.expired and done >= least):
                counts.append(_count(scene.machine, done))
            if before is None and (done == min(_WARM_UP, wanted) or deadline.expired):
                before = read_state(scene.machine)
        scene.expect_no_splat()
        cut = f" of {wanted}: each takes long, and time was up" if done < wanted else ""
        step.passed(f"loaded and unloaded {done} times{cut}")
        left = left_behind(scene, before) if before is not None else ()
        if left:
            raise Failed(Code.LEFT_BEHIND, f"after {done} cycles {left[0]}", lines=left)
    with scene.step("leaks") as step:
        if scene.case.kernel.config.enabled("KASAN"):
            step.skip("this kernel's KASAN keeps freed memory: nothing can be counted")
            return
        if len(counts) < 3:
            step.skip(f"{done} cycles are too few to tell a leak from a step")
            return
        growth = find_growth(counts)
        if growth:
            raise Failed(
                Code.LEAK,
                f"something leaks in each cycle: {growth[0]}",
                advice="free in post_unpatch or in the exit function what the patch allocates; "
                "shadow variables too (klp_shadow_free_all())",
                lines=tuple(str(each) for each in growth),
            )
        caches = len(counts[-1].objects)
        step.passed(f"none of {caches} slab caches grows, nor do pages, modules, threads, hooks")


def when_to_count(wanted: int) -> frozenset[int]:
    """Return after how many cycles to count: the first when caches are warm, the last at the end.

    The first counts lie close together, for a patch whose cycles take so long that few are made.
    """
    first = min(_WARM_UP, max(1, wanted // 3))
    span = wanted - first
    even = {first + span * number // (_COUNTS - 1) for number in range(_COUNTS)}
    far = min(even - {first}, default=wanted) - first > max(_EARLY) + 1
    return frozenset(even | {first + early for early in _EARLY if far})


def _count(machine: Machine, cycles: int) -> Count:
    ran = machine.run(["sh", "-c", _SHRINK], deadline=machine.scaled(30.0))
    memory = {name: int(kib) for name, kib in _MEMINFO.findall(machine.read("/proc/meminfo"))}
    tasks = machine.tasks().tasks
    used_kib = memory["MemTotal"] - memory["MemFree"]
    return Count(
        cycles=cycles,
        objects=read_slabinfo(ran.stdout),
        things={
            "memory in pages": used_kib // _PAGE_KIB,
            "vmalloc areas": count_vmalloc_areas(machine.read("/proc/vmallocinfo")),
            "per-CPU memory in pages": memory.get("Percpu", 0) // _PAGE_KIB,
            "kernel threads": sum(task.kthread for task in tasks),
            "modules": len(machine.read("/proc/modules").splitlines()),
            "hooks": len(read_hooks(machine)),
        },
    )
