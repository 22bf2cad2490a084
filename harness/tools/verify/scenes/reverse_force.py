# SPDX-License-Identifier: GPL-2.0-only
"""A transition that is turned round half-way, and one that is forced."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import ModuleRefused, TransitionTimeout, UsageError
from harness.tools.verify.scene import Failed
from harness.tools.verify.scenes.guest_state import look
from harness.tools.verify.scenes.idle import expect_redirected, restored
from harness.tools.verify.scenes.timeline import recorded
from harness.tools.verify.script import When
from harness.tools.verify.verdict import Code

if TYPE_CHECKING:
    from harness.livepatch.patch import Patch
    from harness.tools.verify.scene import Scene, Step
    from harness.tools.verify.scenes.guest_state import Look

# With two CPUs the kernel looks again after a second only, which leaves time to write a file.
_TRIES = 3


def turn_round(scene: Scene) -> None:
    """Reverse the transition that brings the patch, then the one that takes it away."""
    scene.load_targets()
    before = look(scene.machine)
    with recorded(scene):
        with scene.step("reverse-load") as step:
            _reverse_coming(scene, before, step)
        with scene.step("reverse-disable") as step:
            _reverse_going(scene, before, step)


def _reverse_coming(scene: Scene, before: Look, step: Step) -> None:
    for _ in range(_TRIES):
        patch = scene.load()
        if not _turned(patch):
            _take_back(scene, patch)
            continue
        scene.wait_complete(patch)
        patch.wait_gone(Deadline.after(scene.within_s))
        restored(scene, before)
        scene.unload(patch)
        scene.check(When.AFTER)
        scene.settle()
        step.detail = "turned round while it came, it went without a trace"
        return
    step.skip(f"its transition had ended each of {_TRIES} times before it could be turned round")


def _reverse_going(scene: Scene, before: Look, step: Step) -> None:
    patch = scene.load()
    scene.wait_complete(patch)
    for _ in range(_TRIES):
        patch.disable(wait=False)
        if not _turned(patch):
            _take_back(scene, patch)
            patch = scene.load()
            scene.wait_complete(patch)
            continue
        scene.wait_complete(patch)
        if not patch.exists or not patch.enabled:
            raise Failed(
                Code.NOT_REDIRECTED, "turned round while it went, the patch is not enabled"
            )
        expect_redirected(scene, patch)
        scene.check(When.DURING)
        _take_back(scene, patch)
        restored(scene, before)
        scene.check(When.AFTER)
        scene.settle()
        step.detail = "turned round while it went, it stayed; then it went"
        return
    step.skip(f"its transition had ended each of {_TRIES} times before it could be turned round")


def _turned(patch: Patch) -> bool:
    """Turn the running transition round; False when it has ended before that."""
    try:
        patch.reverse()
    except (UsageError, FileNotFoundError):
        return False
    except OSError as error:
        # Between the look and the write it ended: the same value again, or a patch that was
        # disabled (kernel/livepatch/core.c, enabled_store()).
        if error.errno == errno.EINVAL and not (patch.exists and patch.in_transition):
            return False
        raise
    return True


def _take_back(scene: Scene, patch: Patch) -> None:
    if patch.exists:
        if not patch.in_transition:
            patch.disable(wait=False)
        scene.wait_complete(patch)
    scene.unload(patch)


def force(scene: Scene) -> None:
    """Force the transition in both directions: the last resort, and what it costs."""
    scene.load_targets()
    with scene.step("force-load") as step:
        patch = scene.load()
        if not _force(patch, step):
            return
        scene.wait_complete(patch)
        expect_redirected(scene, patch)
        scene.settle()
        step.detail = "force ends the transition that brings it"
    with scene.step("force-disable") as step:
        patch.disable(wait=False)
        if not _force(patch, step):
            return
        scene.wait_complete(patch)
        pinned = _is_pinned(scene, patch)
        scene.settle()
        step.detail = "force ends the transition that takes it away; " + (
            "the price: its module stays until the next boot"
            if pinned
            else "its module can be unloaded all the same"
        )


def _force(patch: Patch, step: Step) -> bool:
    """Force a transition; False when there is none any more to force."""
    try:
        patch.force()
    except OSError:
        if patch.exists and patch.in_transition:
            raise
        step.skip("its transition had ended before it could be forced")
        return False
    return True


def _is_pinned(scene: Scene, patch: Patch) -> bool:
    """Return whether a forced patch cannot be unloaded (kernel/livepatch/transition.c, forced)."""
    try:
        patch.wait_gone(scene.machine.scaled(5.0))
    except TransitionTimeout:
        return True
    try:
        patch.module.unload()
    except ModuleRefused:
        return True
    return False
