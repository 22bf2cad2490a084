# SPDX-License-Identifier: GPL-2.0-only
"""A task that was forced in a patch below the forced one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.forced import forced_flag_too_narrow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.slow(7)
@pytest.mark.behaviour("FC-08")
def test_module_stays_for_a_task_in_a_lower_patch(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The module of the lower patch stays until the task has left its text.

    Documentation/livepatch/livepatch.rst says that the removal of a patch is disabled for ever
    after a force.
    """
    run_steps(forced_flag_too_narrow, guest, modules=sample_modules)
