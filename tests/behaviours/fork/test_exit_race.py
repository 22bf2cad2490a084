# SPDX-License-Identifier: GPL-2.0-only
"""A thread in a patched function after exit_notify(), when no list of tasks has it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import RaceShown
from harness.races.exit import exit_use_after_free
from harness.races.reproducer import perform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.guest.machine import Machine


@pytest.mark.behaviour("FO-06")
@pytest.mark.xfail(
    strict=True,
    raises=RaceShown,
    reason="use after free on every kernel, reported in January 2025; no fix is merged",
)
def test_module_stays_for_an_ending_thread(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The module of a patch stays until a thread that ends inside its text is out."""
    perform(exit_use_after_free, guest, modules=sample_modules)
