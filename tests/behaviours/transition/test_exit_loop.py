# SPDX-License-Identifier: GPL-2.0-only
"""A patch of the function in which tasks are switched on their way to user mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.exit_loop import exit_loop

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.behaviour("TR-31")
def test_stopped_on_the_way_to_user_mode(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The kernel refuses such a patch, or keeps its module until a stopped task has left it."""
    run_steps(exit_loop, guest, modules=sample_modules)
