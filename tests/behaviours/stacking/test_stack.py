# SPDX-License-Identifier: GPL-2.0-only
"""Several patches of one function: the newest one's body runs (3c33f5b9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

A, B, C = (f"klp_test_cmdline_{letter}" for letter in "abc")


@pytest.mark.slow(7)
@pytest.mark.behaviour("ST-01")
@pytest.mark.parametrize(
    ("order", "bodies"),
    [
        ((C, B, A), (B, A, "original")),
        ((B, C, A), (C, A, "original")),
        ((A, B, C), (C, C, "original")),
    ],
    ids=["top-first", "middle-first", "bottom-first"],
)
def test_newest_body_runs(
    livepatch: Livepatch, view: Guestview, order: tuple[str, ...], bodies: tuple[str, ...]
) -> None:
    """Disabling the top restores the body below; disabling the middle or bottom keeps the top."""
    for name in (A, B, C):
        livepatch.load(name, wait=True)
        assert view.cmdline() == name
    for name, body in zip(order, bodies, strict=True):
        patch = livepatch.patch(name)
        patch.disable()
        patch.unload()
        assert view.cmdline() == body
