# SPDX-License-Identifier: GPL-2.0-only
"""Shadow variables under threads, and what remains of them (kernel/livepatch/shadow.c)."""

from __future__ import annotations

import re

import pytest

from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

SHADOW = "klp_test_shadow"
RACE = "klp_test_shadow_race"
REFUSED = ("ctor-refuses-alloc", "ctor-refuses-get-or-alloc", "get-after-refusal")
FREED = ("free", "get-after-free", "free-again", "free-all", "get-after-free-all", "free-all-last")


@pytest.mark.behaviour("SV-02")
def test_refusing_constructor_and_destructor(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A failed constructor leaves nothing; the destructor runs on free and free_all, once each.

    The second load finds no variable that the first one left.
    """
    for _ in range(2):
        kernel_log.mark()
        module = livepatch.load_target(SHADOW, duplicate=False)
        for step in (*REFUSED, *FREED):
            assert len(kernel_log.matching(rf"shadow {step} ok")) == 1, step
        assert kernel_log.matching(r"shadow done steps=\d+ failed=0$")
        module.unload()


@pytest.mark.behaviour("SV-03")
def test_racing_get_or_alloc(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """Threads that race for a variable: one constructor call, and all get the same data."""
    livepatch.load_target(RACE)
    (done,) = kernel_log.matching(": race rounds=")
    said = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", done.text)}
    rounds = said["rounds"]
    assert rounds > 0
    assert said == {
        "rounds": rounds,
        "constructors": rounds,
        "same": rounds,
        "destructors": rounds,
    }
