# SPDX-License-Identifier: GPL-2.0-only
"""A task that is preempted at the entry of a patched function, in ftrace's handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.preempted import preempted_disable, preempted_handler

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


# With PREEMPT_DYNAMIC the boot chooses whether tasks are preempted; elsewhere the word is void.
pytestmark = [
    pytest.mark.needs("CONFIG_PREEMPTION"),
    pytest.mark.needs("CONFIG_KPROBES"),
    pytest.mark.kernel_args("preempt=full"),
]


@pytest.mark.slow(8)
@pytest.mark.behaviour("TR-29")
def test_module_stays_for_a_task_that_is_about_to_jump_to_it(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The module stays until a task for which its function was chosen has run that."""
    run_steps(preempted_handler, guest, modules=sample_modules)


@pytest.mark.slow(8)
@pytest.mark.behaviour("TR-29")
def test_task_is_not_switched_before_it_jumps_to_a_new_function(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """A task for which a new function was chosen holds the disable until it has left that."""
    run_steps(preempted_disable, guest, modules=sample_modules)
