# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's consistency model in the table LEAVE x SWITCH (harness/tools/models)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.models.cells import Body
from harness.tools.models.experiments import Laboratory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.fixture
def laboratory(guest: Machine, sample_modules: Mapping[str, Path]) -> Laboratory:
    """Two functions that are to be patched together, one calling the other."""
    return Laboratory(guest, sample_modules)


@pytest.mark.slow(19)
@pytest.mark.behaviour("CM-01")
def test_threads_switch_one_by_one_out_of_the_patched_set(laboratory: Laboratory) -> None:
    """A task inside a patched function runs old bodies only, while another runs new ones only.

    Not LEAVE_FUNCTION, not SWITCH_FUNCTION and not SWITCH_KERNEL.
    """
    seen = laboratory.inside()
    assert seen.inside.all(Body.OLD)
    assert seen.free.all(Body.NEW)


@pytest.mark.behaviour("CM-01")
def test_a_task_need_not_leave_the_kernel(laboratory: Laboratory) -> None:
    """A task asleep in a system call outside the patched set runs new ones: not LEAVE_KERNEL."""
    assert laboratory.beside().all(Body.NEW)


@pytest.mark.behaviour("CM-01")
def test_no_function_switches_before_the_others(laboratory: Laboratory) -> None:
    """No task runs a new body before the last object is patched: not SWITCH_FUNCTION."""
    assert laboratory.between().all(Body.OLD)


@pytest.mark.slow(18)
@pytest.mark.behaviour("CM-01")
def test_forced_tasks_are_as_in_the_null_model(laboratory: Laboratory) -> None:
    """A task that is forced in an old function runs new ones: LEAVE_FUNCTION, SWITCH_FUNCTION."""
    seen = laboratory.inside(force=True)
    assert seen.forced
    assert seen.inside.bodies == (Body.OLD, Body.NEW)
    assert seen.free.all(Body.NEW)
