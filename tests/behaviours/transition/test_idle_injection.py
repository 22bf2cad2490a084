# SPDX-License-Identifier: GPL-2.0-only
"""A kernel thread that injects idle time inside a patched function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.idle import idle_injection, idle_switched

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.slow(4)
@pytest.mark.behaviour("TR-28")
def test_module_stays_for_a_thread_that_injects_idle_time(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The module of a patch stays until the thread has left its new function."""
    run_steps(idle_injection, guest, modules=sample_modules)


@pytest.mark.behaviour("TR-28")
def test_thread_is_not_switched_while_it_injects_idle_time(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """A thread that injects idle time in an old function calls old functions afterwards."""
    run_steps(idle_switched, guest, modules=sample_modules)
