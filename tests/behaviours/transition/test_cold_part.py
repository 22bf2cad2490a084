# SPDX-License-Identifier: GPL-2.0-only
"""A task that sleeps in the part of a function that the compiler has moved away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducers.cold import cold_part, cold_switched
from tests.behaviours.steps import run_where_possible

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel


@pytest.mark.slow(5)
@pytest.mark.behaviour("TR-26")
def test_module_stays_for_a_task_in_a_cold_part(
    guest: Machine, kernel: Kernel, sample_modules: Mapping[str, Path]
) -> None:
    """The module of a patch stays until the task has left the cold part of its new function."""
    run_where_possible(cold_part, kernel, guest, sample_modules)


@pytest.mark.behaviour("TR-27")
def test_task_in_a_cold_part_is_not_switched(
    guest: Machine, kernel: Kernel, sample_modules: Mapping[str, Path]
) -> None:
    """A task in the cold part of an old function is not switched before it has left that."""
    run_where_possible(cold_switched, kernel, guest, sample_modules)
