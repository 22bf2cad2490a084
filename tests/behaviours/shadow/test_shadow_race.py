# SPDX-License-Identifier: GPL-2.0-only
"""Shadow variables used by several threads, and leaks of them (kernel/livepatch/shadow.c)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from tests.behaviours.slab_objects import EXACTLY, left_in_use, objects_in_use

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

SHADOW = "klp_test_shadow"
LOCK = "klp_test_shadow_lock"
RACE = "klp_test_shadow_race"
VARIABLE = "/sys/kernel/klp_shadow/variable"
FAILED = "/sys/module/klp_test_fail/parameters/failed"
# What gives memory of any size to klp_shadow_get_or_alloc(): the first name is that from 6.10 on.
ALLOCATORS = ("__kmalloc_noprof", "__kmalloc")
CHURN = 200  # So often klp_test_shadow allocates in each of four ways.
REFUSED = ("ctor-refuses-alloc", "ctor-refuses-get-or-alloc", "get-after-refusal")
FREED = ("free", "get-after-free", "free-again", "free-all", "get-after-free-all", "free-all-last")


@pytest.mark.behaviour("SV-02")
def test_refusing_constructor_and_destructor(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A failed constructor leaves nothing; free and free_all run the destructor once each.

    The module is loaded twice: the second load finds no variable of the first.
    """
    for _ in range(2):
        kernel_log.mark()
        module = livepatch.load_target(SHADOW, duplicate=False)
        for step in (*REFUSED, *FREED):
            assert len(kernel_log.matching(rf"shadow {step} ok")) == 1, step
        assert kernel_log.matching(r"shadow done steps=\d+ failed=0$")
        assert len(kernel_log.matching("Failed to construct shadow variable")) == 2
        module.unload()


@pytest.mark.kernel_args(*EXACTLY)
@pytest.mark.behaviour("SV-02")
def test_nothing_leaks(guest: Machine, livepatch: Livepatch) -> None:
    """Variables are freed: after constructors that fail, by free and by free_all.

    Objects are counted, since a leaked variable cannot be looked up.
    """
    before = objects_in_use(guest)
    livepatch.load_target(SHADOW, duplicate=False, churn=CHURN)
    assert left_in_use(guest, before, fewer_than=CHURN // 2) == {}


@pytest.mark.needs("CONFIG_KPROBES_ON_FTRACE")
@pytest.mark.behaviour("SV-02")
def test_no_memory_for_a_variable(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """The call returns NULL, nothing is attached, and the constructor does not run."""
    allocator = next(name for name in ALLOCATORS if view.has_function(name))
    livepatch.load_target(
        "klp_test_fail", symbol=allocator, caller="__klp_shadow_get_or_alloc", nth=1
    )
    module = livepatch.load_target(SHADOW, duplicate=False)
    assert livepatch.guest.read(FAILED).strip() == "1"
    assert kernel_log.matching(r"shadow done steps=\d+ failed=[1-9]")
    module.unload()
    kernel_log.mark()
    livepatch.load_target(SHADOW, duplicate=False)
    assert kernel_log.matching(r"shadow done steps=\d+ failed=0$")


@pytest.mark.needs("CONFIG_KPROBES_ON_FTRACE")
@pytest.mark.behaviour("SV-09")
def test_a_variable_that_is_there_needs_no_memory(livepatch: Livepatch, view: Guestview) -> None:
    """klp_shadow_get_or_alloc() finds it before it allocates anything."""
    guest = livepatch.guest
    livepatch.load_target("klp_target_shadow")
    guest.write(VARIABLE, "get")
    allocator = next(name for name in ALLOCATORS if view.has_function(name))
    livepatch.load_target(
        "klp_test_fail", symbol=allocator, caller="__klp_shadow_get_or_alloc", nth=1
    )
    guest.write(VARIABLE, "get")
    assert guest.read(FAILED).strip() == "0"
    assert guest.read(VARIABLE) == "constructors=1 destructors=0 live=1\n"
    guest.write(VARIABLE, "free")
    with pytest.raises(OSError, match="Cannot allocate memory"):
        guest.write(VARIABLE, "get")


@pytest.mark.smp(2)
@pytest.mark.kernel_args(*EXACTLY)
@pytest.mark.behaviour("SV-03")
def test_racing_get_or_alloc(
    guest: Machine, livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """When threads race for a variable its constructor runs once, and all get the same data.

    While the constructor runs, another thread has seen that there is no variable, and allocates
    one: it has to look again when it gets the lock, and to free its own.
    """
    allocator = next(name for name in ALLOCATORS if view.has_function(name))
    before = objects_in_use(guest)
    livepatch.load_target(RACE, allocator=allocator)
    (done,) = kernel_log.matching(": race rounds=")
    said = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", done.text)}
    rounds = said["rounds"]
    late = said.pop("late")
    assert late > rounds // 4, "no thread allocated while the constructor ran"
    assert said == {
        "rounds": rounds,
        "constructors": rounds,
        "same": rounds,
        "destructors": rounds,
    }
    assert left_in_use(guest, before, fewer_than=late // 2) == {}


@pytest.mark.behaviour("SV-08")
def test_others_wait_for_a_constructor(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """Each call of another CPU begins while the constructor runs, and returns after it."""
    livepatch.load_target(LOCK)
    (line,) = kernel_log.matching(r"lock begun=\d")
    assert line.text.endswith("lock begun=3 alloc=0 free=0 free_all=0")
