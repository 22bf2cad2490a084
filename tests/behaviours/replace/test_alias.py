# SPDX-License-Identifier: GPL-2.0-only
"""A patch that is replaced by one which calls the same function by its other name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.alias import alias_replace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.behaviour("RP-14")
def test_replaced_by_its_other_name(guest: Machine, sample_modules: Mapping[str, Path]) -> None:
    """Switched tasks run the new function, all others that of the patch that is replaced."""
    run_steps(alias_replace, guest, modules=sample_modules)
