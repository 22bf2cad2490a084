# SPDX-License-Identifier: GPL-2.0-only
"""A thread in a patched function after exit_notify(), when it is in no list of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.exit import exit_use_after_free, exit_warning
from tests.behaviours.steps import run_where_possible

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel


@pytest.mark.behaviour("FO-06")
def test_module_stays_for_an_ending_thread(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The module of a patch stays until a thread that exits inside its text has left that.

    On preemptible kernels before 6.9 it does by accident: ftrace waits for tasks-RCU before it
    removes the hook of a patch, and that waits for all tasks between exit_tasks_rcu_start() and
    exit_tasks_rcu_stop() (kernel/rcu/tasks.h).
    """
    run_steps(exit_use_after_free, guest, modules=sample_modules)


@pytest.mark.slow(7)
@pytest.mark.behaviour("FO-08")
def test_ending_thread_calls_a_function_in_transition(
    guest: Machine, kernel: Kernel, sample_modules: Mapping[str, Path]
) -> None:
    """The kernel does not warn of a thread without a patch state that calls a patched function."""
    run_where_possible(exit_warning, kernel, guest, sample_modules)
