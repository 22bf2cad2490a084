# SPDX-License-Identifier: GPL-2.0-only
"""The patch beside others: it comes after an older version, goes back, stacks, is replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import ModuleRefused
from harness.tools.verify.scene import Failed
from harness.tools.verify.scenes.guest_state import look
from harness.tools.verify.scenes.idle import expect_redirected, left_after_a_while, restored
from harness.tools.verify.script import When
from harness.tools.verify.verdict import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.livepatch.patch import Patch
    from harness.observe.load_plan import Plan
    from harness.tools.verify.scene import Scene

CUMULATIVE = "klp_test_cmdline_a"
"""A sample that replaces all others when it is told to."""

OTHER_CUMULATIVE = "klp_test_cmdline_b"
_AFTERMATH_S = 3.0


def upgrade_from(old: Plan) -> Callable[[Scene], None]:
    """Return the scene in which the patch comes after that older version, and goes back to it."""

    def play(scene: Scene) -> None:
        scene.load_targets()
        before = look(scene.machine)
        with scene.step(f"upgrade:{old.name}") as step:
            older = scene.load(old)
            scene.wait_complete(older)
            patch = _come(scene, scene.case.plan, Code.UPGRADE_REFUSED, old.name)
            scene.wait_complete(patch)
            expect_redirected(scene, patch)
            scene.check(When.DURING)
            replaced = not older.exists or not older.enabled
            if replaced:
                scene.unload(older)
            scene.settle()
            step.detail = f"{old.name} is replaced" if replaced else f"stacked on {old.name}"
        with scene.step(f"downgrade:{old.name}") as step:
            step.detail = (
                _back_by_replacing(scene, patch, old)
                if replaced
                else _back_by_disabling(scene, patch, older)
            )
            scene.settle()
        with scene.step(f"after-downgrade:{old.name}") as step:
            for each in (patch, older):
                if each.exists and each.enabled:
                    scene.disable(each)
                if each.module.loaded:
                    scene.unload(each)
            restored(scene, before)
            scene.check(When.AFTER)
            scene.hold(_AFTERMATH_S)
            scene.settle()
            step.detail = "both are gone, and the old behaviour is back"

    return play


def _back_by_replacing(scene: Scene, patch: Patch, old: Plan) -> str:
    """Load the older version again over the newer one: it takes its place, if it replaces."""
    try:
        older = scene.load(old)
    except ModuleRefused as error:
        if _has_states(scene, old):
            scene.disable(patch)
            scene.unload(patch)
            return f"refused, since it has not the states of {patch.name}: disable that first"
        raise Failed(
            Code.DOWNGRADE_REFUSED,
            f"the kernel does not take {old.name} over {patch.name}: {error.message}",
            lines=error.details,
        ) from error
    scene.wait_complete(older)
    if patch.exists and patch.enabled:
        # The older one does not replace: it lies on top.
        scene.disable(older)
        scene.unload(older)
        scene.disable(patch)
        scene.unload(patch)
        return f"{old.name} does not replace: it came on top, and both went in order"
    scene.unload(patch)
    return f"{old.name} takes the place of {patch.name} again"


def _back_by_disabling(scene: Scene, patch: Patch, older: Patch) -> str:
    scene.disable(patch)
    scene.unload(patch)
    expect_redirected(scene, older)
    return f"{patch.name} went, and {older.name} is on top again"


def _has_states(scene: Scene, old: Plan) -> bool:
    """Return whether the newer patch has a system state that the older lacks or has older."""
    mine = scene.case.info.patch
    theirs = old.info.patch if old.info is not None else None
    if mine is None or theirs is None:
        return True  # the files do not tell: then the kernel's word counts
    known = {state.id: state.version for state in theirs.states}
    return any(known.get(state.id, -1) < state.version for state in mine.states)


def replaced(scene: Scene) -> None:
    """A patch that replaces all others comes: this one has to go and leave nothing."""
    scene.load_targets()
    before = look(scene.machine)
    with scene.step("replaced", soft=Code.REPLACED_LEAVES) as step:
        patch = scene.load()
        scene.wait_complete(patch)
        name = CUMULATIVE if scene.case.name != CUMULATIVE else OTHER_CUMULATIVE
        try:
            scene.machine.insmod(scene.machine.upload(scene.case.samples[name]), "replace=1")
        except ModuleRefused as error:
            mine = scene.case.info.patch
            if mine is not None and mine.states:
                step.skip("it has system states, which another patch has to know to replace it")
                return
            raise Failed(
                Code.NOT_REPLACED,
                f"no patch can replace it: {error.message}",
                lines=error.details,
            ) from error
        other = scene.livepatch.patch(name)
        scene.wait_complete(other)
        patch.wait_gone(Deadline.after(scene.within_s))
        scene.unload(patch)
        scene.disable(other)
        scene.unload(other)
        restored(scene, before)
        scene.check(When.AFTER)
        scene.hold(_AFTERMATH_S)
        lines = left_after_a_while(scene, before)
        if lines:
            raise Failed(Code.LEFT_BEHIND, f"replaced and unloaded, {lines[0]}", lines=lines)
        scene.settle()
        step.detail = "a cumulative patch takes its place, and nothing of it is left"


def stacked(old: Plan) -> Callable[[Scene], None]:
    """Return the scene in which both lie on each other, the newer one first as well."""

    def play(scene: Scene) -> None:
        scene.load_targets()
        before = look(scene.machine)
        with scene.step(f"stacked:{old.name}") as step:
            patch = scene.load()
            scene.wait_complete(patch)
            try:
                older = scene.load(old)
            except ModuleRefused as error:
                if not _has_states(scene, old):
                    raise Failed(
                        Code.DOWNGRADE_REFUSED,
                        f"the kernel does not take {old.name} over it: {error.message}",
                        lines=error.details,
                    ) from error
                step.skip(f"{old.name} has not its system states: it cannot come on top")
                return
            scene.wait_complete(older)
            if not patch.exists or not patch.enabled:
                step.skip(f"{old.name} replaces all others: nothing lies under it")
                scene.disable(older)
                scene.unload(older)
                scene.unload(patch)
                return
            scene.disable(older)
            scene.unload(older)
            expect_redirected(scene, patch)
            scene.check(When.DURING)
            scene.disable(patch)
            scene.unload(patch)
            restored(scene, before)
            scene.check(When.AFTER)
            scene.settle()
            step.detail = f"{old.name} came on top of it and went, and it still holds"

    return play


def _come(scene: Scene, plan: Plan, code: Code, over: str) -> Patch:
    try:
        return scene.load(plan)
    except ModuleRefused as error:
        raise Failed(
            code,
            f"the kernel does not take {plan.name} over {over}: {error.message}",
            advice="the kernel log says why: a system state, or a function that differs",
            lines=error.details,
        ) from error
