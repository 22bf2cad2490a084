# SPDX-License-Identifier: GPL-2.0-only
"""Targets whose load fails after livepatch has patched them."""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.callbacks import CallbackPhase
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.livepatch.modules import Parameter
    from tests.behaviours.conftest import Guestview

PATCH, TARGET = "klp_test_target_fg", "klp_target_mod"
NOTIFIER = "klp_test_notifier"
LOWER = "klp_test_gate"
FAILS_WITH = errno.ENODEV


class Way(StrEnum):
    """How load_module() fails after klp_module_coming(): it has three places that clean up."""

    INIT = "init"
    NOTIFIER = "notifier"
    PARAMETER = "parameter"


def fails_to_load(livepatch: Livepatch, way: Way) -> None:
    """Let the load of the target fail once, with the errno of that way."""
    init_ret: Parameter = 0
    if way is Way.INIT:
        init_ret = -FAILS_WITH
    elif way is Way.PARAMETER:
        init_ret = "no-number"
    else:
        livepatch.load_target(NOTIFIER, refused=TARGET)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load_target(TARGET, init_ret=init_ret)
    assert refused.value.errno == (errno.EINVAL if way is Way.PARAMETER else FAILS_WITH)
    if way is Way.NOTIFIER:
        livepatch.guest.write(f"/sys/module/{NOTIFIER}/parameters/refused", "none\n")


@pytest.mark.behaviour("MO-11")
@pytest.mark.parametrize("way", Way)
def test_failed_load_is_unpatched(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog, way: Way
) -> None:
    """The target that fails is unpatched, with all four callbacks, and loads at the next try."""
    patch = livepatch.load(PATCH, wait=True)
    fails_to_load(livepatch, way)
    assert view.shows_patched(patch.object(TARGET), patched=False)
    assert [event.phase for event in kernel_log.callbacks()] == list(CallbackPhase)
    assert bool(kernel_log.matching("init sees: ")) is (way is Way.INIT)
    assert TARGET not in view.modules()
    assert "klp_target_f" not in view.enabled_functions()
    livepatch.load_target(TARGET)
    assert (view.target("f"), view.target("g")) == (PATCH, PATCH)
    assert view.shows_patched(patch.object(TARGET), patched=True)
    patch.disable()
    patch.unload()
    assert (view.target("f"), view.target("g")) == ("original", "original")


@pytest.mark.behaviour("MO-11")
@pytest.mark.parametrize("way", Way)
def test_failed_load_in_transition(
    livepatch: Livepatch,
    view: Guestview,
    tasks: Tasks,
    gate: Gates,
    kernel_log: KernelLog,
    way: Way,
) -> None:
    """A load fails while the patch is in transition: no callback runs for a target that is gone.

    A sleeper in the body of a patch that is being replaced holds the transition.
    """
    livepatch.load(LOWER, wait=True)
    sleeper = gate.enter()
    patch = livepatch.load(PATCH, replace=True)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    fails_to_load(livepatch, way)
    assert view.shows_patched(patch.object(TARGET), patched=False)
    undone = [event.phase for event in kernel_log.callbacks()]
    assert undone == [CallbackPhase.PRE_PATCH, CallbackPhase.POST_UNPATCH]
    assert patch.in_transition
    sleeper.release()
    patch.wait_complete()
    assert len(kernel_log.callbacks()) == len(undone), "a callback ran for a target that is gone"
    livepatch.load_target(TARGET)
    assert (view.target("f"), view.target("g")) == (PATCH, PATCH)
