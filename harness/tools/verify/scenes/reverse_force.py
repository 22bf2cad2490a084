# SPDX-License-Identifier: GPL-2.0-only
"""A transition that is reversed before it has ended, and one that is forced."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.errors import ModuleRefused, TransitionTimeout, UsageError
from harness.tools.verify.scenes.expect import expect_patched, expect_redirected, expect_unpatched
from harness.tools.verify.scenes.guest_state import read_state
from harness.tools.verify.scenes.timeline import recorded
from harness.tools.verify.step import Failed
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from harness.livepatch.patch import Patch
    from harness.tools.verify.scene import Scene
    from harness.tools.verify.scenes.guest_state import GuestState
    from harness.tools.verify.step import Step

# With two CPUs the kernel tries again after a second only, which leaves time to write a file.
_TRIES = 3
_TOO_LATE = f"each of {_TRIES} times the transition had ended before it could be reversed"


def reverse(scene: Scene) -> None:
    """Reverse the transition that enables the patch, then the one that disables it."""
    scene.load_targets()
    before = read_state(scene.machine)
    with recorded(scene):
        with scene.step("reverse-load") as step:
            _reverse_enabling(scene, before, step)
        with scene.step("reverse-disable") as step:
            _reverse_disabling(scene, before, step)


def _reverse_enabling(scene: Scene, before: GuestState, step: Step) -> None:
    for _ in range(_TRIES):
        patch = scene.load()
        if not try_reverse(scene, patch):
            _disable_and_unload(scene, patch)
            continue
        scene.wait_complete(patch)
        scene.wait_gone(patch)
        scene.unload(patch)
        expect_unpatched(scene, before)
        step.passed("reversed while it was being enabled, it is disabled and leaves nothing")
        return
    step.skip(_TOO_LATE)


def _reverse_disabling(scene: Scene, before: GuestState, step: Step) -> None:
    patch = scene.enable()
    for _ in range(_TRIES):
        scene.start_disabling(patch)
        if not try_reverse(scene, patch):
            _disable_and_unload(scene, patch)
            patch = scene.enable()
            continue
        scene.wait_complete(patch)
        if not patch.exists or not patch.enabled:
            raise Failed(
                Code.NOT_REDIRECTED,
                "its transition was reversed while it was being disabled, and it is not enabled",
            )
        expect_patched(scene, patch)
        _disable_and_unload(scene, patch)
        expect_unpatched(scene, before)
        step.passed("reversed while it was being disabled, it stays enabled; then it is disabled")
        return
    step.skip(_TOO_LATE)


def try_reverse(scene: Scene, patch: Patch) -> bool:
    """Reverse the running transition; False when it has ended before that."""
    try:
        scene.waits.go_on(patch.reverse, patch.completes)
    except (UsageError, FileNotFoundError):
        return False
    except OSError as error:
        # It ended between read and write: the same value again, or a patch that is disabled
        # (kernel/livepatch/core.c, enabled_store()).
        if error.errno == errno.EINVAL and not (patch.exists and patch.in_transition):
            return False
        raise
    return True


def _disable_and_unload(scene: Scene, patch: Patch) -> None:
    """Disable a patch that may be disabled already, and unload it."""
    if patch.exists:
        if not patch.in_transition:
            scene.start_disabling(patch)
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
        scene.expect_no_splat()
        step.passed("force ends the transition that enables it")
    with scene.step("force-disable") as step:
        scene.start_disabling(patch)
        if not _force(patch, step):
            return
        scene.wait_complete(patch)
        pinned = _is_pinned(scene, patch)
        scene.expect_no_splat()
        cost = "its module stays loaded until the next boot" if pinned else "its module is unloaded"
        step.passed(f"force ends the transition that disables it; {cost}")


def _force(patch: Patch, step: Step) -> bool:
    """Force a transition; False when it has ended before that."""
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
        patch.module.unload()
    except (TransitionTimeout, ModuleRefused):
        return True
    return False
