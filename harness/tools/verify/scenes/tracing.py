# SPDX-License-Identifier: GPL-2.0-only
"""The patch together with other users of its functions' entries: the tracer, and kprobes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.errors import ModuleRefused
from harness.tools.verify.scenes.expect import expect_patched
from harness.tools.verify.scenes.guest_state import functions_of
from harness.tools.verify.script import When

if TYPE_CHECKING:
    from harness.tools.verify.scene import Scene

KPROBE = "klp_test_kprobe"
_TRACING = "/sys/kernel/tracing"


def with_others(scene: Scene) -> None:
    """Trace the patched functions while the patch is loaded and unloaded; then probe one."""
    scene.load_targets()
    functions = _functions_in_file(scene)
    with scene.step("with-tracer") as step:
        traced = [name for name in functions if trace_only(scene, name)]
        if traced:
            scene.machine.write(f"{_TRACING}/current_tracer", "function")
        patch = scene.enable()
        expect_patched(scene, patch)
        functions = functions or _names(functions_of(patch, scene.machine))
        scene.remove(patch)
        scene.check(When.AFTER)
        scene.machine.write(f"{_TRACING}/current_tracer", "nop")
        scene.expect_no_splat()
        if traced:
            step.passed(f"{traced[-1]}() was traced meanwhile, and neither disturbs the other")
        else:
            step.skip("the tracer knows none of the patched functions by the patch's names")
    with scene.step("with-kprobe") as step:
        probed = _probe(scene, functions)
        if probed is None:
            step.skip("no kprobe can be placed on a patched function")
            return
        patch = scene.enable()
        expect_patched(scene, patch)
        scene.remove(patch)
        scene.livepatch.module(KPROBE).unload()
        scene.expect_no_splat()
        step.passed(f"a kprobe on {probed}() and the patch do not disturb each other")


def trace_only(scene: Scene, name: str) -> bool:
    """Have the tracer trace this function only; False when it knows none of that name."""
    try:
        scene.machine.write(f"{_TRACING}/set_ftrace_filter", name)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def _functions_in_file(scene: Scene) -> tuple[str, ...]:
    """Return the functions of loaded objects that the patch's file names; none when it does not."""
    patch = scene.case.info.patch
    if patch is None:
        return ()
    loaded = {"vmlinux", *(target.name for target in scene.case.loadable)}
    return tuple(dict.fromkeys(each.name for each in patch.functions if each.object in loaded))


def _names(functions: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(name.partition(":")[2] for name in functions))


def _probe(scene: Scene, functions: tuple[str, ...]) -> str | None:
    """Put a kprobe on the first function that can have one; return its name."""
    for name in functions:
        try:
            scene.livepatch.load_target(scene.case.samples[KPROBE], symbol=name)
        except ModuleRefused:
            continue
        return name
    return None
