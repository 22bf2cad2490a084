# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's place in the table LEAVE x SWITCH, found by experiment (harness/tools/classify)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.classify.experiments import Laboratory
from harness.tools.classify.model import Body

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.fixture
def laboratory(guest: Machine, sample_modules: Mapping[str, Path]) -> Laboratory:
    """Two functions that are to be patched together, one calling the other."""
    return Laboratory(guest, sample_modules)


@pytest.mark.behaviour("CM-01")
def test_threads_switch_one_by_one_out_of_the_patched_set(laboratory: Laboratory) -> None:
    """A task inside a patched function gets only old ones, while another gets only new ones.

    Not LEAVE_FUNCTION, not SWITCH_FUNCTION and not SWITCH_KERNEL.
    """
    seen = laboratory.inside()
    assert seen.inside.all(Body.OLD)
    assert seen.free.all(Body.NEW)


@pytest.mark.behaviour("CM-01")
def test_a_task_need_not_leave_the_kernel(laboratory: Laboratory) -> None:
    """A task asleep in a system call outside the patched set gets new ones: not LEAVE_KERNEL."""
    assert laboratory.beside().all(Body.NEW)


@pytest.mark.behaviour("CM-01")
def test_no_function_switches_before_the_others(laboratory: Laboratory) -> None:
    """Before its last object is patched nobody gets any of a patch: not SWITCH_FUNCTION."""
    assert laboratory.between().all(Body.OLD)


@pytest.mark.behaviour("CM-01")
def test_forced_tasks_are_as_in_the_null_model(laboratory: Laboratory) -> None:
    """A task forced inside an old function gets new ones: LEAVE_FUNCTION, SWITCH_FUNCTION."""
    seen = laboratory.inside(force=True)
    assert seen.forced
    assert seen.inside.bodies == (Body.OLD, Body.NEW)
    assert seen.free.all(Body.NEW)
