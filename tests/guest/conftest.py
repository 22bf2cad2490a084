# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of guests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine


class BreakKernel(Protocol):
    """What the ``break_kernel`` fixture is."""

    def __call__(self, guest: Machine, mode: str) -> None:
        """Make the guest's kernel break in that way, from a module's init."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option; pytest knows it when this folder is named on its command line."""
    parser.addoption(
        "--every-size",
        action="store_true",
        help="verify livepatches of up to a thousand functions too, which takes half an hour",
    )


@pytest.fixture
def break_kernel(sample_modules: Mapping[str, Path]) -> BreakKernel:
    """Break a guest's kernel on purpose: panic, oops, warn or hang."""

    def break_it(guest: Machine, mode: str) -> None:
        guest.insmod(guest.upload(sample_modules["klp_bad_kernel"]), f"mode={mode}")

    return break_it
