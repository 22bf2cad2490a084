# SPDX-License-Identifier: GPL-2.0-only
"""What the patch hands out is held across its unload, and used then.

A file that was opened while the patch was enabled may have operations of the patch's own; a timer,
work, a kernel thread or a notifier may lead into its text. When the module is gone, using one of
them executes what is not there any more.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.errors import GuestPanic, KernelSplat, ModuleRefused
from harness.tools.verify.scenes.load import FILES, files_of_targets
from harness.tools.verify.scenes.load_profiles import CHURNED
from harness.tools.verify.step import Failed
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from harness.livepatch.patch import Patch
    from harness.tools.verify.scene import Scene
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

_UNUSED_S = 2.0
_USE_S = 15.0
_AFTERMATH_S = 5.0
_MOST_FILES = 200
_SIGKILL = 9
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/ptmx")
_LIST = """
find /proc -path '/proc/[0-9]*' -prune -o ! -type d -print
find /dev /sys -path /sys/kernel/tracing -prune -o -path /sys/kernel/debug/tracing -prune \
    -o -path /sys/kernel/slab -prune -o -path /sys/kernel/livepatch -prune -o ! -type d -print
true
"""
# What notifiers and the like are called for: a module, a CPU, memory that is short, an address, a
# clock. Each is tried, and what this kernel does not have does no harm.
_STIR = """
insmod "$1" && rmmod "$2"
for cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do
    echo 0 >"$cpu" && echo 1 >"$cpu"
done
echo 3 >/proc/sys/vm/drop_caches
ip addr add 127.0.0.9/32 dev lo && ip addr del 127.0.0.9/32 dev lo
date -s "$(date '+%Y-%m-%d %H:%M:%S')"
"""


def hold(scene: Scene) -> None:
    """Hold what can be opened while the patch is enabled; unload it; use what is held."""
    usual = (*FILES, *_DEVICES, *files_of_targets(scene))
    scene.load_targets()
    with scene.step("held") as step:
        before = files_in(scene.machine)
        patch = scene.enable()
        made = sorted(
            path
            for path in files_in(scene.machine) - before
            if not path.startswith((f"/sys/module/{patch.name}/", "/dev/pts/"))
        )[:_MOST_FILES]
        process = scene.machine.spawn("klp-hold", *made, *usual)
        process.next_line(scene.machine.scaled(_USE_S))
        scene.disable(patch)
        scene.wait_gone(patch)
        refused = _is_refused(scene, patch)
        try:
            _use(scene, process)
            if refused:
                scene.unload(patch)
            _stir(scene)
            scene.hold(_AFTERMATH_S)
            scene.expect_no_splat()
        except (KernelSplat, GuestPanic) as error:
            raise Failed(
                Code.USED_AFTER_UNLOAD,
                f"something that the patch had handed out was used after it: {error.message}",
                advice="what leads into the patch's text has to hold the module (owner = "
                "THIS_MODULE, try_module_get()), or to be taken back before the module goes: "
                "del_timer_sync(), cancel_work_sync(), kthread_stop(), unregister_*()",
                lines=error.details,
            ) from error
        kept = ", and while they were open it could not be unloaded" if refused else ""
        step.passed(f"{_count(made)} and the usual ones were open across its unload{kept}")


def files_in(machine: Machine) -> frozenset[str]:
    """Return the files and devices below /proc, /sys and /dev, but for those of processes."""
    ran = machine.run(["sh", "-c", _LIST], deadline=machine.scaled(60.0))
    return frozenset(ran.stdout.splitlines())


def _count(made: list[str]) -> str:
    return f"{len(made)} files that the patch had made" if made else "no file of the patch's own"


def _is_refused(scene: Scene, patch: Patch) -> bool:
    """Unload the patch while its files are held; True when the kernel refuses that."""
    patch.module.wait_unused(scene.machine.scaled(_UNUSED_S))
    try:
        patch.module.unload()
    except ModuleRefused:
        return True
    return False


def _use(scene: Scene, process: SpawnedProcess) -> None:
    """Use and close what is held; raises Failed when that does not end."""
    with contextlib.suppress(OSError):
        process.write_line("use")
    try:
        process.wait(scene.machine.scaled(_USE_S))
    except TimeoutError:
        process.signal(_SIGKILL)
        process.wait(scene.machine.scaled(_USE_S))
    scene.expect_no_splat()


def _stir(scene: Scene) -> None:
    """Have the kernel call what is registered for changes of the system."""
    used = [target.name for target in scene.case.plan.targets]
    name = next(each for each in CHURNED if each not in used)
    path = scene.machine.upload(scene.case.samples[name])
    with contextlib.suppress(TimeoutError):
        scene.machine.run(
            ["sh", "-c", _STIR, "stir", path, name], deadline=scene.machine.scaled(30.0)
        )
