# SPDX-License-Identifier: GPL-2.0-only
"""The patch together with what else hooks the entry of its functions: the tracer, kprobes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.errors import ModuleRefused
from harness.tools.verify.scenes.guest_state import functions_of
from harness.tools.verify.scenes.idle import expect_redirected
from harness.tools.verify.script import When

if TYPE_CHECKING:
    from harness.tools.verify.scene import Scene

KPROBE = "klp_test_kprobe"
_TRACING = "/sys/kernel/tracing"


def with_others(scene: Scene) -> None:
    """Trace the patched functions while the patch comes and goes; then probe one."""
    scene.load_targets()
    functions = _names(scene)
    with scene.step("with-tracer") as step:
        traced = [name for name in functions if _filter(scene, name)]
        if traced:
            scene.machine.write(f"{_TRACING}/current_tracer", "function")
        patch = scene.load()
        scene.wait_complete(patch)
        expect_redirected(scene, patch)
        scene.check(When.DURING)
        functions = functions or _short(functions_of(patch, scene.machine))
        scene.disable(patch)
        scene.unload(patch)
        scene.check(When.AFTER)
        scene.machine.write(f"{_TRACING}/current_tracer", "nop")
        scene.settle()
        if traced:
            step.detail = f"{traced[-1]}() was traced meanwhile, and neither disturbs the other"
        else:
            step.skip("the tracer knows none of the patched functions by the patch's names")
    with scene.step("with-kprobe") as step:
        probed = _probe(scene, functions)
        if probed is None:
            step.skip("no patched function takes a kprobe")
            return
        patch = scene.load()
        scene.wait_complete(patch)
        expect_redirected(scene, patch)
        scene.check(When.DURING)
        scene.disable(patch)
        scene.unload(patch)
        scene.machine.rmmod(KPROBE)
        scene.settle()
        step.detail = f"a kprobe on {probed}() and the patch do not disturb each other"


def _filter(scene: Scene, name: str) -> bool:
    """Let the tracer trace this function only; False when it knows none of that name."""
    try:
        scene.machine.write(f"{_TRACING}/set_ftrace_filter", name)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def _names(scene: Scene) -> tuple[str, ...]:
    patch = scene.case.info.patch
    present = {"vmlinux", *(target.name for target in scene.case.plan.targets)}
    return (
        tuple(dict.fromkeys(each.name for each in patch.functions if each.object in present))
        if patch is not None
        else ()
    )


def _short(functions: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(name.partition(":")[2] for name in functions))


def _probe(scene: Scene, functions: tuple[str, ...]) -> str | None:
    """Put a kprobe on the first function that takes one; return its name."""
    file = scene.machine.upload(scene.case.samples[KPROBE])
    for name in functions:
        try:
            scene.machine.insmod(file, f"symbol={name}")
        except ModuleRefused:
            continue
        return name
    return None
