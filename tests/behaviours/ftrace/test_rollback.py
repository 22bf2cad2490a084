# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch that is refused because of a kprobe, while its function is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.held_cpu import ipmodify_rollback

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.needs("CONFIG_OPTPROBES")
@pytest.mark.behaviour("FT-07")
def test_refused_while_its_function_is_called(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """A CPU that is held in klp_ftrace_handler() for the refused patch finds its list."""
    run_steps(ipmodify_rollback, guest, modules=sample_modules)
