# SPDX-License-Identifier: GPL-2.0-only
"""The order of callbacks (93862e38, Documentation/livepatch/callbacks.rst)."""

from __future__ import annotations

import pytest

from harness.livepatch.callbacks import CallbackEvent, CallbackPhase
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

PATCH = "klp_test_callbacks_a"
TARGET, THIRD = "klp_target_mod", "klp_target_notrace"
PRE_PATCH = CallbackPhase.PRE_PATCH
POST_PATCH = CallbackPhase.POST_PATCH
PRE_UNPATCH = CallbackPhase.PRE_UNPATCH
POST_UNPATCH = CallbackPhase.POST_UNPATCH


def vmlinux(phase: CallbackPhase) -> CallbackEvent:
    """Return the event of a callback for vmlinux."""
    return CallbackEvent(patch=PATCH, phase=phase, object="vmlinux", state="-")


def target(phase: CallbackPhase, state: str, name: str = TARGET) -> CallbackEvent:
    """Return the event of a callback for the target module in that state."""
    return CallbackEvent(patch=PATCH, phase=phase, object=name, state=state)


@pytest.mark.behaviour("CB-01")
def test_order_for_vmlinux_and_a_loaded_target(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """pre_patch, transition, post_patch; pre_unpatch, transition, post_unpatch, for each object."""
    livepatch.load_target(TARGET)
    patch = livepatch.load(PATCH, wait=True)
    assert kernel_log.callbacks() == [
        vmlinux(PRE_PATCH),
        target(PRE_PATCH, "LIVE"),
        vmlinux(POST_PATCH),
        target(POST_PATCH, "LIVE"),
    ]
    _inside(kernel_log, "starting patching transition", PRE_PATCH, POST_PATCH)
    kernel_log.mark()
    patch.disable()
    patch.wait_gone()
    assert kernel_log.callbacks() == [
        vmlinux(PRE_UNPATCH),
        target(PRE_UNPATCH, "LIVE"),
        vmlinux(POST_UNPATCH),
        target(POST_UNPATCH, "LIVE"),
    ]
    _inside(kernel_log, "starting unpatching transition", PRE_UNPATCH, POST_UNPATCH)


@pytest.mark.behaviour("CB-01")
def test_target_behind_one_that_is_not_loaded(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """An object that is not there has no callbacks, and the next one has all of them."""
    livepatch.load_target(THIRD)
    patch = livepatch.load(PATCH, wait=True)
    assert kernel_log.callbacks() == [
        vmlinux(PRE_PATCH),
        target(PRE_PATCH, "LIVE", THIRD),
        vmlinux(POST_PATCH),
        target(POST_PATCH, "LIVE", THIRD),
    ]
    kernel_log.mark()
    patch.disable()
    patch.wait_gone()
    assert kernel_log.callbacks() == [
        vmlinux(PRE_UNPATCH),
        target(PRE_UNPATCH, "LIVE", THIRD),
        vmlinux(POST_UNPATCH),
        target(POST_UNPATCH, "LIVE", THIRD),
    ]


@pytest.mark.behaviour("CB-02")
def test_target_loaded_after_the_patch(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A coming target: pre_patch and post_patch run with state COMING, before the target's init."""
    patch = livepatch.load(PATCH, wait=True)
    assert kernel_log.callbacks() == [vmlinux(PRE_PATCH), vmlinux(POST_PATCH)]
    kernel_log.mark()
    livepatch.load_target(TARGET)
    assert kernel_log.callbacks() == [target(PRE_PATCH, "COMING"), target(POST_PATCH, "COMING")]
    texts = kernel_log.texts()
    init = next(n for n, text in enumerate(texts) if "init sees" in text)
    last = max(n for n, text in enumerate(texts) if "callback " in text)
    assert last < init, f"the target's init ran before its callbacks: {texts}"
    kernel_log.mark()
    patch.disable()
    patch.wait_gone()
    assert kernel_log.callbacks() == [
        vmlinux(PRE_UNPATCH),
        target(PRE_UNPATCH, "LIVE"),
        vmlinux(POST_UNPATCH),
        target(POST_UNPATCH, "LIVE"),
    ]


@pytest.mark.behaviour("CB-03")
def test_target_unloaded_before_the_patch(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A going target: pre_unpatch and post_unpatch run with state GOING, after its exit."""
    module = livepatch.load_target(TARGET)
    patch = livepatch.load(PATCH, wait=True)
    kernel_log.mark()
    module.unload()
    assert kernel_log.callbacks() == [
        target(PRE_UNPATCH, "GOING"),
        target(POST_UNPATCH, "GOING"),
    ]
    texts = kernel_log.texts()
    gone = next(n for n, text in enumerate(texts) if "exit sees" in text)
    first = min(n for n, text in enumerate(texts) if "callback " in text)
    assert gone < first, f"callbacks ran before the target's exit: {texts}"
    kernel_log.mark()
    patch.disable()
    patch.wait_gone()
    assert kernel_log.callbacks() == [vmlinux(PRE_UNPATCH), vmlinux(POST_UNPATCH)]


@pytest.mark.behaviour("CB-04")
def test_target_never_loaded(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """When the target is not loaded only the callbacks for vmlinux run."""
    patch = livepatch.load(PATCH, wait=True)
    patch.disable()
    patch.wait_gone()
    assert kernel_log.callbacks() == [
        vmlinux(PRE_PATCH),
        vmlinux(POST_PATCH),
        vmlinux(PRE_UNPATCH),
        vmlinux(POST_UNPATCH),
    ]


def _inside(kernel_log: KernelLog, start: str, before: CallbackPhase, after: CallbackPhase) -> None:
    """Assert that the transition starts after the pre-callbacks, ends after the post-callbacks."""
    texts = kernel_log.texts()
    started = next(n for n, text in enumerate(texts) if start in text)
    ended = next(n for n, text in enumerate(texts) if text.endswith("patching complete"))
    assert max(n for n, text in enumerate(texts) if f"callback {before}" in text) < started
    first_after = min(n for n, text in enumerate(texts) if f"callback {after}" in text)
    assert started < first_after < ended, texts
