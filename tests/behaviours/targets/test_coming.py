# SPDX-License-Identifier: GPL-2.0-only
"""Target modules that are loaded, unloaded and loaded again while their patch is enabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

PATCH = "klp_test_target_fg"
TARGET = "klp_target_mod"


@pytest.mark.behaviour("MO-01")
def test_patched_before_its_init(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """A target that is loaded after the patch is patched before its init runs."""
    livepatch.load(PATCH, wait=True)
    livepatch.load_target(TARGET)
    (record,) = kernel_log.matching("init sees: ")
    assert record.text.endswith(f"init sees: f {PATCH}")
    assert (view.target("f"), view.target("g")) == (PATCH, PATCH)


@pytest.mark.slow(4)
@pytest.mark.behaviour("MO-02")
def test_reloaded_target_is_patched_again(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """A target that is reloaded is patched again, and ``patched`` is 0 in between."""
    module = livepatch.load_target(TARGET)
    patch = livepatch.load(PATCH, wait=True)
    assert (view.target("f"), view.target("g")) == (PATCH, PATCH)
    for _ in range(2):
        module.unload()
        assert view.shows_patched(patch.object(TARGET), patched=False)
        kernel_log.mark()
        module = livepatch.load_target(TARGET)
        assert view.shows_patched(patch.object(TARGET), patched=True)
        assert kernel_log.matching(f"init sees: f {PATCH}$")
        assert (view.target("f"), view.target("g")) == (PATCH, PATCH)
    patch.disable()
    patch.unload()
    assert (view.target("f"), view.target("g")) == ("original", "original")
