# SPDX-License-Identifier: GPL-2.0-only
"""What scenes expect of a guest: that the patch is in effect, and that it has left nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.tools.verify.scenes.guest_state import (
    functions_of,
    read_hooks,
    read_state,
    under_other_names,
)
from harness.tools.verify.script import When
from harness.tools.verify.step import Failed
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from harness.livepatch.patch import Patch
    from harness.tools.verify.scene import Scene
    from harness.tools.verify.scenes.guest_state import GuestState

_SETTLE_S = 3.0
_LOOK_S = 0.5
_MOST_NAMES = 6


def expect_patched(scene: Scene, patch: Patch) -> None:
    """Expect the new behaviour: each function is redirected, and the user's check passes."""
    expect_redirected(scene, patch)
    scene.check(When.DURING)


def expect_unpatched(scene: Scene, before: GuestState) -> None:
    """Expect the old behaviour: nothing is redirected, and the user's check passes."""
    expect_restored(scene, before)
    scene.check(When.AFTER)
    scene.expect_no_splat()


def expect_redirected(scene: Scene, patch: Patch) -> str:
    """Expect that each function of the patch is redirected; return which are, "" when none is."""
    wanted = functions_of(patch, scene.machine)
    hooks = read_hooks(scene.machine)
    image = scene.case.kernel.vmlinux
    missing = sorted(wanted - hooks - under_other_names(wanted, hooks, image))
    if missing:
        raise Failed(
            Code.NOT_REDIRECTED,
            f"{missing[0]}() is not redirected, though the transition has ended",
            advice="the patch names it: look at its klp_object and klp_func",
            lines=tuple(missing),
        )
    for patched in patch.objects():
        if patched.patched is False and any(name.startswith(f"{patched.name}:") for name in wanted):
            raise Failed(
                Code.NOT_REDIRECTED, f"{patched.name} is loaded, and is not shown as patched"
            )
    more = f" and {len(wanted) - _MOST_NAMES} more" if len(wanted) > _MOST_NAMES else ""
    return ", ".join(sorted(wanted)[:_MOST_NAMES]) + more


def expect_restored(scene: Scene, before: GuestState) -> None:
    """Expect that nothing is redirected that was not before the patch."""
    left = sorted(read_hooks(scene.machine) - before.hooks)
    if left:
        raise Failed(
            Code.NOT_RESTORED,
            f"{left[0]}() is still redirected after the patch was disabled",
            lines=tuple(left),
        )


def left_behind(scene: Scene, before: GuestState) -> tuple[str, ...]:
    """Return what differs from before; what the kernel removes a moment later is waited for."""
    deadline = scene.machine.scaled(_SETTLE_S)
    while True:
        lines = read_state(scene.machine).changes_since(before)
        if not lines or deadline.expired:
            return lines
        scene.hold(_LOOK_S)
