# SPDX-License-Identifier: GPL-2.0-only
"""A transition that ends while the kernel has no memory to wait for all CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.held_cpu import sync_no_memory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.slow(9)
@pytest.mark.needs("CONFIG_OPTPROBES")
@pytest.mark.behaviour("TR-32")
def test_transition_waits_without_memory(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The patch states are reset when no CPU is inside klp_ftrace_handler() any more."""
    run_steps(sync_no_memory, guest, modules=sample_modules)
