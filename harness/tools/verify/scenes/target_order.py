# SPDX-License-Identifier: GPL-2.0-only
"""The patch first and its target later, and a target that comes, goes and comes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import ModuleRefused
from harness.tools.verify.scene import Failed
from harness.tools.verify.scenes.guest_state import look
from harness.tools.verify.scenes.idle import expect_redirected, restored
from harness.tools.verify.script import When
from harness.tools.verify.verdict import Code

if TYPE_CHECKING:
    from harness.observe.load_plan import Target
    from harness.tools.verify.scene import Scene


def targets_later(scene: Scene) -> None:
    """Load the patch without its targets, then these; reload them; disable without them."""
    before = look(scene.machine)
    targets = scene.case.plan.targets
    with scene.step("target-after") as step:
        patch = scene.load()
        scene.wait_complete(patch)
        for target in targets:
            _come(scene, target)
        expect_redirected(scene, patch)
        scene.check(When.DURING)
        scene.settle()
        step.detail = "a target that comes later is patched as it comes"
    with scene.step("target-reloaded") as step:
        try:
            for target in reversed(targets):
                _go(scene, target)
        except Stays as stays:
            step.skip(str(stays))
            return
        for target in targets:
            _come(scene, target)
        expect_redirected(scene, patch)
        scene.check(When.DURING)
        scene.settle()
        step.detail = "a target that goes and comes again is patched again"
    with scene.step("target-gone") as step:
        for target in reversed(targets):
            _go(scene, target)
        scene.disable(patch)
        scene.unload(patch)
        for target in targets:
            _come(scene, target)
        restored(scene, before)
        scene.check(When.AFTER)
        scene.settle()
        step.detail = "after the patch has gone, a target that comes is not patched"
    with scene.step("target-before-reloaded") as step:
        patch = scene.load()
        scene.wait_complete(patch)
        for target in reversed(targets):
            _go(scene, target)
        for target in targets:
            _come(scene, target)
        expect_redirected(scene, patch)
        scene.disable(patch)
        scene.unload(patch)
        for target in reversed(targets):
            _go(scene, target)
        scene.settle()
        step.detail = "a target that was there first can be reloaded under the patch"


class Stays(Exception):
    """A target is of a kind that cannot be unloaded, patch or no patch."""


def _stays_anyway(scene: Scene, target: Target) -> bool:
    """Try in another guest, where there is no patch."""
    with scene.another_guest() as machine:
        for each in scene.case.plan.targets:
            machine.insmod(machine.upload(each.path))
        try:
            machine.rmmod(target.name)
        except ModuleRefused:
            return True
    return False


def _come(scene: Scene, target: Target) -> None:
    try:
        scene.insmod(target)
    except ModuleRefused as error:
        raise Failed(
            Code.TARGET_REFUSED,
            f"{target.name} cannot be loaded any more: {error.message}",
            advice="a callback or a function of the patch fails when its target comes; the kernel "
            "then refuses the target",
            lines=error.details,
        ) from error


def _go(scene: Scene, target: Target) -> None:
    try:
        scene.machine.rmmod(target.name)
    except ModuleRefused as error:
        if _stays_anyway(scene, target):
            raise Stays(f"{target.name} cannot be unloaded without the patch either") from error
        raise Failed(
            Code.PINNED,
            f"{target.name} cannot be unloaded under the patch: {error.message}",
            advice="the patch holds a reference to what it patches",
            lines=error.details,
        ) from error
