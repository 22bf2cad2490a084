# SPDX-License-Identifier: GPL-2.0-only
"""The patch with other patches: upgraded to, downgraded from, stacked, replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import KernelVerdict, ModuleRefused
from harness.tools.verify.scenes.expect import (
    expect_patched,
    expect_redirected,
    expect_unpatched,
    left_behind,
)
from harness.tools.verify.scenes.guest_state import read_state
from harness.tools.verify.step import Failed, NotOfPatch
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from harness.livepatch.patch import Patch
    from harness.observe.load_plan import Plan
    from harness.tools.verify.scene import Scene

# Samples that replace all other patches when loaded with replace=1.
CUMULATIVE = "klp_test_cmdline_a"
OTHER_CUMULATIVE = "klp_test_cmdline_b"
_AFTERMATH_S = 3.0


def upgrade(scene: Scene, old: Plan) -> None:
    """Upgrade from that older version to the patch, and back."""
    scene.load_targets()
    before = read_state(scene.machine)
    with scene.step(f"upgrade:{old.name}") as step:
        older = _enable_alone(scene, old)
        try:
            patch = scene.enable()
        except ModuleRefused as error:
            raise _refused(Code.UPGRADE_REFUSED, scene.case.name, old.name, error) from error
        expect_patched(scene, patch)
        replaced = not _is_enabled(older)
        if replaced:
            scene.unload(older)
        scene.expect_no_splat()
        step.passed(f"{old.name} is replaced" if replaced else f"stacked on {old.name}")
    with scene.step(f"downgrade:{old.name}") as step:
        if replaced:
            step.passed(_downgrade_by_replacing(scene, patch, old))
        else:
            scene.remove(patch)
            expect_redirected(scene, older)
            step.passed(f"{patch.name} is unloaded, and {older.name} is in effect again")
        scene.expect_no_splat()
    with scene.step(f"after-downgrade:{old.name}") as step:
        for each in (patch, older):
            if _is_enabled(each):
                scene.disable(each)
            if each.module.loaded:
                scene.unload(each)
        expect_unpatched(scene, before)
        scene.hold(_AFTERMATH_S)
        scene.expect_no_splat()
        step.passed("both are unloaded, and the old behaviour is back")


def _downgrade_by_replacing(scene: Scene, patch: Patch, old: Plan) -> str:
    """Load the older version again, over the newer one, which it replaces if it is cumulative."""
    older = _enable_over(scene, old)
    if older is None:
        scene.remove(patch)
        return f"refused, since it lacks the states of {patch.name}: disable that first"
    if _is_enabled(patch):
        scene.remove(older, patch)
        return f"{old.name} does not replace: it was stacked, and both were unloaded in order"
    scene.unload(patch)
    return f"{old.name} replaces {patch.name} again"


def replaced(scene: Scene) -> None:
    """Load a patch that replaces all others: this one has to be unloadable and leave nothing."""
    scene.load_targets()
    before = read_state(scene.machine)
    with scene.step("replaced", soft=Code.REPLACED_LEAVES) as step:
        patch = scene.enable()
        name = CUMULATIVE if scene.case.name != CUMULATIVE else OTHER_CUMULATIVE
        try:
            other = scene.load_over(name, scene.case.samples[name], "replace=1")
        except ModuleRefused as error:
            mine = scene.case.info.patch
            if mine is not None and mine.states:
                step.skip("it has system states, which a patch needs too in order to replace it")
                return
            raise Failed(
                Code.NOT_REPLACED,
                f"no patch can replace it: {error.message}",
                lines=error.details,
            ) from error
        scene.wait_complete(other)
        scene.wait_gone(patch)
        scene.unload(patch)
        scene.remove(other)
        expect_unpatched(scene, before)
        scene.hold(_AFTERMATH_S)
        if lines := left_behind(scene, before):
            raise Failed(Code.LEFT_BEHIND, f"replaced and unloaded, {lines[0]}", lines=lines)
        scene.expect_no_splat()
        step.passed("a cumulative patch replaces it, and nothing of it is left")


def stack(scene: Scene, old: Plan) -> None:
    """Stack the older version on the patch, and unload it again."""
    scene.load_targets()
    before = read_state(scene.machine)
    with scene.step(f"stacked:{old.name}") as step:
        patch = scene.enable()
        older = _enable_over(scene, old)
        if older is None:
            step.skip(f"{old.name} lacks its system states, so it cannot be stacked on it")
            return
        if not _is_enabled(patch):
            step.skip(f"{old.name} replaces all others, so it cannot be stacked")
            scene.remove(older)
            scene.unload(patch)
            return
        scene.remove(older)
        expect_patched(scene, patch)
        scene.remove(patch)
        expect_unpatched(scene, before)
        step.passed(f"{old.name} was stacked on it and unloaded, and it stays in effect")


def _enable_alone(scene: Scene, old: Plan) -> Patch:
    """Enable the older version by itself; raises NotOfPatch when that fails."""
    try:
        older = scene.enable(old)
        scene.expect_no_splat()
    except KernelVerdict as error:
        scene.excuse_splat()
        raise NotOfPatch(f"{old.name} cannot be enabled by itself: {error.message}") from error
    return older


def _enable_over(scene: Scene, old: Plan) -> Patch | None:
    """Load the older version over the patch; None when the kernel refuses it for its states."""
    try:
        return scene.enable(old)
    except ModuleRefused as error:
        if _has_newer_states(scene, old):
            return None
        raise _refused(Code.DOWNGRADE_REFUSED, old.name, scene.case.name, error) from error


def _refused(code: Code, name: str, under: str, error: ModuleRefused) -> Failed:
    return Failed(
        code,
        f"the kernel does not load {name} over {under}: {error.message}",
        advice="the kernel log says why: a system state, or a function that differs",
        lines=error.details,
    )


def _is_enabled(patch: Patch) -> bool:
    return patch.exists and patch.enabled


def _has_newer_states(scene: Scene, old: Plan) -> bool:
    """Return whether the patch has a system state that is missing or lower in the older one."""
    mine = scene.case.info.patch
    theirs = old.info.patch if old.info is not None else None
    if mine is None or theirs is None:
        return True  # the files do not name them, so the kernel's refusal counts
    known = {state.id: state.version for state in theirs.states}
    return any(known.get(state.id, -1) < state.version for state in mine.states)
