# SPDX-License-Identifier: GPL-2.0-only
"""The patch is loaded, disabled and unloaded in an idle guest, and then loaded again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.livepatch.blockers import parse_stack, patched_function_on
from harness.tools.verify.alone import words as refused_words
from harness.tools.verify.scenes.calls import names_of
from harness.tools.verify.scenes.expect import (
    expect_patched,
    expect_redirected,
    expect_restored,
    left_behind,
)
from harness.tools.verify.scenes.guest_state import read_state
from harness.tools.verify.scenes.sysctls import changed_settings, read_settings
from harness.tools.verify.scenes.timeline import recorded
from harness.tools.verify.script import When
from harness.tools.verify.step import Failed
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.livepatch.patch import Patch
    from harness.tools.verify.scene import Scene
    from harness.tools.verify.scenes.guest_state import GuestState

# How head(1) separates files.
_STACK = re.compile(r"^==> /proc/\d+/task/(\d+)/stack <==\n((?:\[<.*\n?)*)", re.MULTILINE)
_AFTERMATH_S = 3.0
_HOLD_S = 1.0


def load_and_unload(scene: Scene) -> None:
    """Load, redirect, disable, restore, unload; see what is left; load again."""
    _prepare(scene)
    before = read_state(scene.machine)
    settings = read_settings(scene.machine, without=before.modules)
    patch = _enable_and_disable(scene)
    with scene.step("restored") as step:
        scene.wait_gone(patch)
        expect_restored(scene, before)
        step.passed("no function is redirected any more")
    _check(scene, "check-after", When.AFTER, "the old behaviour is back")
    with scene.step("unload") as step:
        scene.unload(patch)
        scene.expect_no_splat()
        step.passed("the module is unloaded")
    with scene.step("left-behind") as step:
        scene.hold(_AFTERMATH_S)
        _expect_nothing_left(scene, before, settings)
        step.passed("modules, hooks, threads, settings and sysfs are as they were")
    with scene.step("load-again") as step:
        patch = scene.enable()
        expect_patched(scene, patch)
        scene.remove(patch)
        scene.check(When.AFTER)
        step.passed("it is loaded a second time, and redirects")
    with scene.step("log") as step:
        scene.expect_no_splat()
        step.passed("the kernel reported no bug")


def _prepare(scene: Scene) -> None:
    """Load the targets, and look at the unpatched kernel."""
    with scene.step("target-load") as step:
        scene.load_targets()
        names = ", ".join(target.name for target in scene.case.loadable)
        step.passed(f"{names} loaded first" if names else "there is none")
        if scene.case.refused:
            step.skip(refused_words(scene.case))
    _check(scene, "check-before", When.BEFORE, "the old behaviour is as the script expects")
    with scene.step("on-stack") as step:
        step.passed("no task has a patched function on its stack")
        if holders := _tasks_in_functions(scene):
            step.warn(
                Code.ON_STACK,
                f"{holders[0]}: it holds the transition until it leaves",
                "expect the transition to wait for such tasks",
                holders,
            )


def _enable_and_disable(scene: Scene) -> Patch:
    with recorded(scene) as mark:
        with scene.step("load") as step:
            patch = scene.load()
            step.passed("the kernel accepts it")
        with scene.step("transition") as step:
            mark("loaded")
            scene.note_duration(step, scene.wait_complete(patch), "all tasks were switched")
        with scene.step("redirected") as step:
            redirected = expect_redirected(scene, patch)
            scene.expect_no_splat()
            if redirected:
                step.passed(f"redirected: {redirected}")
            elif scene.case.refused:
                step.skip(refused_words(scene.case))
            else:
                step.skip("it has no function in what is loaded")
        _check(scene, "check-during", When.DURING, "the new behaviour is as the script expects")
        scene.hold(_HOLD_S)
        with scene.step("disable") as step:
            mark("disabled")
            scene.note_duration(step, scene.disable(patch), "all tasks were switched back")
    return patch


def _check(scene: Scene, name: str, when: When, detail: str) -> None:
    if scene.script is not None:
        with scene.step(name) as step:
            scene.check(when)
            step.passed(detail)
            never = scene.executed.never_ran(f"check-{when}") if when is When.DURING else ()
            if never:
                step.warn(
                    Code.NOT_EXERCISED,
                    f"the check passes, and never ran the new body of {names_of(never)}: it shows "
                    "nothing of what is new there",
                    "have the check make the kernel call what is patched",
                    never,
                )
    elif scene.case.request.check is not None:
        with scene.step(name) as step:
            step.skip(f"the check may need them: {refused_words(scene.case)}")


def _expect_nothing_left(scene: Scene, before: GuestState, settings: Mapping[str, str]) -> None:
    lines = (
        *left_behind(scene, before),
        *changed_settings(settings, read_settings(scene.machine, without=before.modules)),
    )
    if lines:
        raise Failed(
            Code.LEFT_BEHIND,
            f"after the unload {lines[0]}" + (f" and {len(lines) - 1} more" if lines[1:] else ""),
            advice="undo in post_unpatch or in the exit function what pre_patch or init did",
            lines=lines,
        )


def _tasks_in_functions(scene: Scene) -> tuple[str, ...]:
    """Return the tasks that sleep in a function that the patch is going to patch."""
    patch = scene.case.info.patch
    functions = [(each.object, each.name) for each in patch.functions] if patch is not None else []
    if not functions:
        return ()
    # One request: with many threads, one for each takes long.
    read = scene.machine.run(["sh", "-c", "head -n 99 /proc/[0-9]*/task/[0-9]*/stack"])
    stacks = dict(_STACK.findall(read.stdout))
    found = []
    for task in scene.machine.tasks().tasks:
        stack = parse_stack(stacks.get(str(task.tid), ""))
        function = patched_function_on(stack, functions=functions, patches=())
        if function is not None:
            kind = "kernel thread" if task.kthread else "task"
            found.append(f"{kind} {task.comm} ({task.tid}) sleeps in {function}()")
    return tuple(found)
