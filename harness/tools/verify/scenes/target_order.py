# SPDX-License-Identifier: GPL-2.0-only
"""The patch is loaded before its targets, and targets are reloaded under it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.errors import ModuleRefused
from harness.tools.verify.alone import words
from harness.tools.verify.scenes.expect import expect_patched, expect_redirected, expect_unpatched
from harness.tools.verify.scenes.guest_state import read_state
from harness.tools.verify.step import Failed, NotOfPatch
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from harness.observe.load_plan import Target
    from harness.tools.verify.scene import Scene


def targets_later(scene: Scene) -> None:
    """Load the patch, then its targets; reload these; disable the patch without them."""
    before = read_state(scene.machine)
    with scene.step("target-after") as step:
        patch = scene.enable()
        _try_refused(scene)
        if not scene.case.loadable:
            raise NotOfPatch(words(scene.case))
        _load_all(scene)
        expect_patched(scene, patch)
        scene.expect_no_splat()
        step.passed("a target that is loaded after the patch is patched when it is loaded")
    with scene.step("target-reloaded") as step:
        _unload_all(scene)
        _load_all(scene)
        expect_patched(scene, patch)
        scene.expect_no_splat()
        step.passed("a target that is unloaded and loaded again is patched again")
    with scene.step("target-gone") as step:
        _unload_all(scene)
        scene.remove(patch)
        _load_all(scene)
        expect_unpatched(scene, before)
        step.passed("a target that is loaded after the patch was unloaded is not patched")
    with scene.step("target-before-reloaded") as step:
        patch = scene.enable()
        _unload_all(scene)
        _load_all(scene)
        expect_redirected(scene, patch)
        scene.remove(patch)
        _unload_all(scene)
        scene.expect_no_splat()
        step.passed("a target that was loaded before the patch can be reloaded under it")


def _try_refused(scene: Scene) -> None:
    """Load what is refused without the patch: under it, that may do no harm."""
    for target in scene.case.plan.targets:
        if target.name in scene.case.refused:
            with contextlib.suppress(ModuleRefused):
                scene.load_target(target)
                scene.unload_target(target)
    scene.expect_no_splat()


def _load_all(scene: Scene) -> None:
    for target in scene.case.loadable:
        load_target(scene, target)


def _unload_all(scene: Scene) -> None:
    for target in reversed(scene.case.loadable):
        unload_target(scene, target)


def load_target(scene: Scene, target: Target) -> None:
    """Load a target while the patch is loaded, or after it; raises Failed, and NotOfPatch."""
    try:
        scene.load_target(target)
    except ModuleRefused as error:
        if _is_refused_again(scene, target):
            raise NotOfPatch(
                f"{target.name} cannot be loaded a second time without the patch either"
            ) from error
        raise Failed(
            Code.TARGET_REFUSED,
            f"the kernel refuses to load {target.name}: {error.message}",
            advice="a callback or a function of the patch fails when the target is loaded, so the "
            "kernel refuses the target",
            lines=error.details,
        ) from error


def unload_target(scene: Scene, target: Target) -> None:
    """Unload a target under the patch; raises Failed, and NotOfPatch."""
    try:
        scene.unload_target(target)
    except ModuleRefused as error:
        if _stays_without_patch(scene, target):
            raise NotOfPatch(
                f"{target.name} cannot be unloaded without the patch either"
            ) from error
        raise Failed(
            Code.PINNED,
            f"{target.name} cannot be unloaded under the patch: {error.message}",
            advice="the patch holds a reference to what it patches",
            lines=error.details,
        ) from error


def _stays_without_patch(scene: Scene, target: Target) -> bool:
    """Try to unload it in another guest, without the patch."""
    with scene.another_guest() as machine:
        for each in scene.case.loadable:
            machine.insmod(machine.upload(each.path))
        try:
            machine.rmmod(target.name)
        except ModuleRefused:
            return True
    return False


def _is_refused_again(scene: Scene, target: Target) -> bool:
    """Load the targets twice in another guest, without the patch; whether this one is refused."""
    with scene.another_guest() as machine:
        try:
            for _ in range(2):
                for each in scene.case.loadable:
                    machine.insmod(machine.upload(each.path))
                for each in reversed(scene.case.loadable):
                    machine.rmmod(each.name)
        except ModuleRefused as error:
            return error.action == "load" and error.module == target.name
    return False
