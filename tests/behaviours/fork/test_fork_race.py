# SPDX-License-Identifier: GPL-2.0-only
"""The fork race (747f7a29): flag and patch state of a child are copied at different times.

The steps are in harness/tools/race/reproducers/fork.py, which `klp-harness race` runs, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.fork import (
    fork_missing_flag,
    fork_stale_forward,
    fork_stale_reverse,
)
from harness.tools.race.reproducers.storm import storm_fork

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


@pytest.mark.behaviour("FO-02")
def test_child_is_marked(guest: Machine, sample_modules: Mapping[str, Path]) -> None:
    """A child whose parent was copied before the transition started is marked, and switches."""
    run_steps(fork_missing_flag, guest, modules=sample_modules)


@pytest.mark.behaviour("FO-03")
def test_no_stale_flag_when_the_parent_switched(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """A child whose parent was switched after it was copied has no flag left over."""
    run_steps(fork_stale_forward, guest, modules=sample_modules)


@pytest.mark.behaviour("FO-04")
def test_no_stale_flag_after_a_reverse(guest: Machine, sample_modules: Mapping[str, Path]) -> None:
    """A child whose parent was copied before the transition was reversed has no flag left over."""
    run_steps(fork_stale_reverse, guest, modules=sample_modules)


@pytest.mark.slow(14)
@pytest.mark.behaviour("FO-07")
def test_storm_of_forks(guest: Machine, sample_modules: Mapping[str, Path]) -> None:
    """Forks without a pause during enable, reverse and disable: no warning, no task is left."""
    run_steps(storm_fork, guest, modules=sample_modules, seed=1)
