# SPDX-License-Identifier: GPL-2.0-only
"""What the core has allocated for a livepatch, when the livepatch is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.patch import Livepatch
from tests.behaviours.slab_objects import EXACTLY, left_in_use, objects_in_use

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine

TARGET, MANY, REPLACING = "klp_target_many", "klp_test_many", "klp_test_cmdline_a"
FUNCTIONS = 40


@pytest.mark.slow(12)
@pytest.mark.usefixtures("gate")
@pytest.mark.kernel_args(*EXACTLY)
@pytest.mark.behaviour("LD-14")
def test_nothing_is_left_of_many_functions(guest: Machine, livepatch: Livepatch) -> None:
    """Neither of their handlers with the filters of ftrace, nor of the nops that replaced them.

    Objects are counted after a first round, which allocates what the kernel keeps.
    What is allocated for each function and not freed is more than what others allocate meanwhile.
    """
    livepatch.load_target(TARGET)

    def load_replace_and_disable() -> None:
        livepatch.load(MANY, wait=True, functions=FUNCTIONS)
        patch = livepatch.load(REPLACING, wait=True, replace=True)
        livepatch.module(MANY).unload()
        patch.disable()
        patch.unload()

    load_replace_and_disable()
    before = objects_in_use(guest)
    load_replace_and_disable()
    assert left_in_use(guest, before, fewer_than=FUNCTIONS * 2 // 3) == {}
