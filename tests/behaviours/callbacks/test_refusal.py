# SPDX-License-Identifier: GPL-2.0-only
"""A pre_patch callback may refuse (93862e38)."""

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

PATCH = "klp_test_callbacks_a"
TWO_OBJECTS = "klp_test_two_objects"
TARGET = "klp_target_mod"


@pytest.mark.behaviour("CB-05")
def test_refusal_on_load(livepatch: Livepatch, kernel_log: KernelLog, view: Guestview) -> None:
    """pre_patch fails: the load fails with its errno, no other callback of the object runs."""
    livepatch.load_target(TARGET)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(PATCH, pre_patch_ret=-errno.ENODEV)
    assert refused.value.errno == errno.ENODEV
    assert kernel_log.callbacks() == [
        CallbackEvent(patch=PATCH, phase=CallbackPhase.PRE_PATCH, object="vmlinux", state="-")
    ]
    assert not livepatch.patch(PATCH).exists
    assert PATCH not in view.modules()


@pytest.mark.behaviour("CB-06")
def test_refusal_of_a_coming_target(
    livepatch: Livepatch, kernel_log: KernelLog, view: Guestview
) -> None:
    """pre_patch fails for a coming module: that module is refused, the patch stays on vmlinux."""
    patch = livepatch.load(PATCH, wait=True, pre_patch_ret_target=-errno.ENODEV)
    kernel_log.mark()
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load_target(TARGET)
    assert refused.value.errno == errno.ENODEV
    assert TARGET not in view.modules()
    assert kernel_log.callbacks() == [
        CallbackEvent(patch=PATCH, phase=CallbackPhase.PRE_PATCH, object=TARGET, state="COMING")
    ]
    assert not kernel_log.matching("init sees"), "the refused module's init has run"
    assert (patch.enabled, patch.in_transition) == (True, False)
    kernel_log.mark()
    patch.disable()
    patch.wait_gone()
    assert [event.object for event in kernel_log.callbacks()] == ["vmlinux", "vmlinux"]


@pytest.mark.behaviour("CB-06")
def test_patches_above_the_refusing_one(
    livepatch: Livepatch, kernel_log: KernelLog, view: Guestview
) -> None:
    """The callbacks of the patch below run in pairs; of a patch above, none runs."""
    below = livepatch.load("klp_test_busy", wait=True)
    refusing = livepatch.load(PATCH, wait=True, pre_patch_ret_target=-errno.ENODEV)
    above = livepatch.load("klp_test_callbacks_b", wait=True)
    kernel_log.mark()
    with pytest.raises(ModuleRefused):
        livepatch.load_target(TARGET)
    assert [(event.patch, event.phase) for event in kernel_log.callbacks()] == [
        (below.name, CallbackPhase.PRE_PATCH),
        (below.name, CallbackPhase.POST_PATCH),
        (refusing.name, CallbackPhase.PRE_PATCH),
        (below.name, CallbackPhase.PRE_UNPATCH),
        (below.name, CallbackPhase.POST_UNPATCH),
    ]
    assert TARGET not in view.modules()
    assert above.enabled


@pytest.mark.behaviour("CB-07")
def test_second_object_fails(livepatch: Livepatch, kernel_log: KernelLog, view: Guestview) -> None:
    """The second object fails after the first was patched: only the first's post_unpatch runs.

    ftrace has hooked the first object's function by then; the hook is removed again.
    """
    livepatch.load_target(TARGET)
    before = view.enabled_functions()
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(TWO_OBJECTS, pre_patch_ret_target=-errno.ENODEV)
    assert refused.value.errno == errno.ENODEV
    assert [(event.phase, event.object) for event in kernel_log.callbacks()] == [
        (CallbackPhase.PRE_PATCH, "vmlinux"),
        (CallbackPhase.PRE_PATCH, TARGET),
        (CallbackPhase.POST_UNPATCH, "vmlinux"),
    ]
    assert view.enabled_functions() == before
    assert view.cmdline() == "original"
    assert TWO_OBJECTS not in view.modules()
    livepatch.load(TWO_OBJECTS, wait=True)
    assert (view.cmdline(), view.target("f")) == (TWO_OBJECTS, TWO_OBJECTS)
