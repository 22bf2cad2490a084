# SPDX-License-Identifier: GPL-2.0-only
"""The disable of a patch below another one is reversed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.reversed_below import reverse_out_of_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.needs("CONFIG_DYNAMIC_DEBUG")
@pytest.mark.behaviour("TR-30")
def test_reversed_disable_of_a_lower_patch(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """It completes: no task is in a function that would have to be left."""
    run_steps(reverse_out_of_bounds, guest, modules=sample_modules)
