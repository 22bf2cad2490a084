# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch of an __init function of a target that is loaded later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.late_init import late_init

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.slow(4)
@pytest.mark.behaviour("MO-09")
def test_livepatch_of_a_freed_function_leaves_no_trace(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The livepatch is unloaded without a warning, and later ones do not read its memory.

    A kernel may also refuse the target, as it refuses the livepatch when that is loaded last.
    """
    run_steps(late_init, guest, modules=sample_modules)
