# SPDX-License-Identifier: GPL-2.0-only
"""A few signals at random moments; `make soak` sends hundreds, to more commands."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from benchmarks.commands_here import Place
from benchmarks.signals import BOOT, QUICK, Shooting

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.kernel.kernel import Kernel

_TO_COMMANDS, _TO_GUESTS = 6, 4


@pytest.fixture
def place(kernel: Kernel, tmp_path: Path) -> Place:
    """Commands with a runs folder of their own; the kernel is in the cache then."""
    return Place(tmp_path, ("--kernel", kernel.spec))


@pytest.mark.slow(46)
def test_a_signal_at_any_moment_leaves_nothing(place: Place) -> None:
    """The signal's exit code, no traceback, no process, no key, a sound cache, and it works again.

    The seed is another one each time, and is in the message when something did not hold.
    """
    seed = secrets.randbelow(1 << 31)
    shooting = Shooting(place=place, seed=seed, list_each_time=False)
    shooting.shoot((QUICK[0], QUICK[2]), _TO_COMMANDS, lambda _: None)
    shooting.shoot((BOOT,), _TO_GUESTS, lambda _: None)
    problems = [*shooting.problems, *shooting.aftermath()]
    assert len(shooting.shots) == _TO_COMMANDS + _TO_GUESTS
    assert not problems, "\n".join((f"seed {seed}", *problems))
