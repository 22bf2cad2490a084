# SPDX-License-Identifier: GPL-2.0-only
"""A target that its own patch, which has livepatch relocations, refuses once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.relocations import CLEARS, refused_target_relocations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview


@pytest.mark.behaviour("MO-10")
def test_refused_target_comes_again(
    guest: Machine, sample_modules: Mapping[str, Path], view: Guestview
) -> None:
    """A target that pre_patch refused once is loaded, patched, when it refuses no more."""
    if not view.has_function(CLEARS):
        pytest.skip("the kernel clears no relocations: see MO-07")
    run_steps(refused_target_relocations, guest, modules=sample_modules)
