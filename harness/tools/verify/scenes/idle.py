# SPDX-License-Identifier: GPL-2.0-only
"""The patch comes and goes in a guest that does nothing else; then it comes again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.livepatch.blockers import parse_stack, patched_function_on
from harness.tools.verify.scene import Failed
from harness.tools.verify.scenes.guest_state import (
    functions_of,
    look,
    read_hooks,
    under_other_names,
)
from harness.tools.verify.scenes.sysctls import changed_settings, read_settings
from harness.tools.verify.scenes.timeline import recorded
from harness.tools.verify.script import When, expect_before
from harness.tools.verify.verdict import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.livepatch.patch import Patch
    from harness.tools.verify.scene import Scene
    from harness.tools.verify.scenes.guest_state import Look

# How head(1) tells files apart.
_STACK = re.compile(r"^==> /proc/\d+/task/(\d+)/stack <==\n((?:\[<.*\n?)*)", re.MULTILINE)
_AFTERMATH_S = 3.0
_FIRST_HOLD_S = 1.0
_GOES_S = 3.0
_LOOK_S = 0.5


def come_and_go(scene: Scene) -> None:
    """Load, redirect, disable, restore, unload; see what is left; load again."""
    with scene.step("target-load") as step:
        scene.load_targets()
        names = ", ".join(target.name for target in scene.case.plan.targets)
        step.detail = f"{names} loaded first" if names else "there is none"
    if scene.script is not None:
        path = scene.case.request.check
        assert path is not None
        with scene.step("check-before") as step:
            timeout_s = scene.case.request.check_timeout_s * scene.machine.time_scale
            expect_before(scene.script.run(When.BEFORE), path, timeout_s=timeout_s)
            step.detail = "the old behaviour is as the script expects"
    with scene.step("on-stack") as step:
        holders = _who_would_hold(scene)
        step.detail = "no task has a patched function on its stack"
        if holders:
            step.warn(
                Code.ON_STACK,
                f"{holders[0]}: it holds the transition until it leaves",
                "expect the transition to wait for them",
                holders,
            )
    before = look(scene.machine)
    settings = read_settings(scene.machine, without=before.modules)
    with recorded(scene) as marks:
        with scene.step("load") as step:
            patch = scene.load()
            step.detail = "the kernel takes it"
        with scene.step("transition") as step:
            marks("loaded")
            scene.print_slow(step, scene.wait_complete(patch), "all tasks were switched")
        with scene.step("redirected") as step:
            step.detail = _redirected(scene, patch)
        _behave(scene, "check-during", When.DURING)
        scene.hold(_FIRST_HOLD_S)
        with scene.step("disable") as step:
            marks("disabled")
            scene.print_slow(step, scene.disable(patch), "all tasks were switched back")
    with scene.step("restored") as step:
        patch.wait_gone(Deadline.after(scene.within_s))
        restored(scene, before)
        step.detail = "no function is redirected any more"
    _behave(scene, "check-after", When.AFTER)
    with scene.step("unload") as step:
        scene.unload(patch)
        scene.settle()
        step.detail = "the module goes"
    with scene.step("left-behind") as step:
        scene.hold(_AFTERMATH_S)
        _nothing_left(scene, before, settings)
        step.detail = "modules, hooks, threads, settings and sysfs are as they were"
    with scene.step("load-again") as step:
        patch = scene.load()
        scene.wait_complete(patch)
        expect_redirected(scene, patch)
        step.detail = "it comes a second time, and redirects"
        if scene.script is not None:
            scene.check(When.DURING)
        scene.disable(patch)
        scene.unload(patch)
        scene.check(When.AFTER)
    with scene.step("log") as step:
        scene.settle()
        step.detail = "the kernel did not complain"


def expect_redirected(scene: Scene, patch: Patch) -> str:
    """Check that each function of the patch leads elsewhere; return in words how many do."""
    wanted = functions_of(patch, scene.machine)
    there = read_hooks(scene.machine)
    image = scene.case.kernel.vmlinux
    missing = sorted(wanted - there - under_other_names(wanted, there, image))
    if missing:
        raise Failed(
            Code.NOT_REDIRECTED,
            f"{missing[0]}() is not redirected, though the transition is over",
            advice="the patch says that it patches it: see klp_object and klp_func",
            lines=tuple(missing),
        )
    for patched in patch.objects():
        if patched.patched is False and any(name.startswith(f"{patched.name}:") for name in wanted):
            raise Failed(
                Code.NOT_REDIRECTED, f"{patched.name} is loaded, and is not shown as patched"
            )
    if not wanted:
        return "it has no function in what is loaded"
    return f"redirected: {', '.join(sorted(wanted)[:6])}"


def restored(scene: Scene, before: Look) -> None:
    """Check that nothing is redirected that was not before the patch."""
    left = sorted(read_hooks(scene.machine) - before.hooks)
    if left:
        raise Failed(
            Code.NOT_RESTORED,
            f"{left[0]}() is still redirected after the patch was disabled",
            lines=tuple(left),
        )


def _redirected(scene: Scene, patch: Patch) -> str:
    said = expect_redirected(scene, patch)
    scene.settle()
    return said


def _behave(scene: Scene, name: str, when: When) -> None:
    if scene.script is None:
        return
    with scene.step(name) as step:
        scene.check(when)
        step.detail = {
            When.DURING: "the new behaviour is as the script expects",
            When.AFTER: "the old behaviour is back",
        }.get(when, "")


def _nothing_left(scene: Scene, before: Look, settings: Mapping[str, str]) -> None:
    lines = (
        *left_after_a_while(scene, before),
        *changed_settings(settings, read_settings(scene.machine, without=before.modules)),
    )
    if lines:
        raise Failed(
            Code.LEFT_BEHIND,
            f"after the unload {lines[0]}" + (f" and {len(lines) - 1} more" if lines[1:] else ""),
            advice="undo in post_unpatch or in the exit function what pre_patch or init did",
            lines=lines,
        )


def left_after_a_while(scene: Scene, before: Look) -> tuple[str, ...]:
    """Return what is not as it was before; what goes by itself in a moment is given the time."""
    deadline = scene.machine.scaled(_GOES_S)
    while True:
        lines = look(scene.machine).beyond(before)
        if not lines or deadline.expired:
            return lines
        scene.hold(_LOOK_S)


def _who_would_hold(scene: Scene) -> tuple[str, ...]:
    """Return the tasks that sleep in a function which the patch patches, before it comes."""
    patch = scene.case.info.patch
    functions = [(each.object, each.name) for each in patch.functions] if patch is not None else []
    if not functions:
        return ()
    # All at once: a request for each of many threads takes its time.
    said = scene.machine.run(["sh", "-c", "head -n 99 /proc/[0-9]*/task/[0-9]*/stack"]).stdout
    stacks = dict(_STACK.findall(said))
    found = []
    for task in scene.machine.tasks().tasks:
        stack = parse_stack(stacks.get(str(task.tid), ""))
        function = patched_function_on(stack, functions=functions, patches=())
        if function is not None:
            kind = "kernel thread" if task.kthread else "task"
            found.append(f"{kind} {task.comm} ({task.tid}) sleeps in {function}()")
    return tuple(found)
