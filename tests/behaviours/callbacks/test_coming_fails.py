# SPDX-License-Identifier: GPL-2.0-only
"""A coming module that cannot be patched after its pre_patch callback."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.callbacks import CallbackEvent, CallbackPhase
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

PATCH = "klp_test_untraceable"
TARGET = "klp_target_notrace"


@pytest.mark.behaviour("CB-08")
def test_patching_a_coming_module_fails(
    livepatch: Livepatch, kernel_log: KernelLog, view: Guestview
) -> None:
    """A coming module whose patching fails after pre_patch: post_unpatch runs, and only that."""
    patch = livepatch.load(PATCH, wait=True)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load_target(TARGET)
    assert refused.value.errno == errno.EINVAL
    assert kernel_log.callbacks() == [
        CallbackEvent(patch=PATCH, phase=phase, object=TARGET, state="COMING")
        for phase in (CallbackPhase.PRE_PATCH, CallbackPhase.POST_UNPATCH)
    ]
    assert TARGET not in view.modules()
    assert patch.enabled
    assert view.shows_patched(patch.object(TARGET), patched=False)
    patch.disable()
    patch.unload()
    livepatch.load_target(TARGET)
    assert len(kernel_log.callbacks()) == 2, "a callback ran for a module that had been refused"
