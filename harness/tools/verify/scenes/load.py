# SPDX-License-Identifier: GPL-2.0-only
"""The patch is loaded and unloaded while the guest is under load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.tools.verify.request import LoadProfile
from harness.tools.verify.scenes.expect import expect_redirected, expect_unpatched
from harness.tools.verify.scenes.guest_state import read_state
from harness.tools.verify.scenes.load_profiles import Load, label
from harness.tools.verify.script import When

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.tools.verify.scene import Scene
    from harness.vm.guest.machine import Machine

_HOLD_S = 3.0
_THOROUGH_HOLD_S = 20.0
# How much CPU time the guest has to get while the patch is enabled. Half of what a verdict takes of
# the host is this, three times.
_WORK_S = 6.0
_THOROUGH_WORK_S = 40.0
_MOST_HOLD_S = 60.0
# A program of the user's may sleep most of the time: it has no more to give then.
_MOST_USERS_HOLD_S = 10.0
_MORE_TIME = 2.0
_PROBE_S = 2.0
_LOOK_S = 0.5
_MOST_FILES = 24
# Read by all kinds of programs all the time, and short.
FILES = (
    *("/proc/cmdline", "/proc/version", "/proc/meminfo", "/proc/stat", "/proc/loadavg"),
    *("/proc/uptime", "/proc/self/status", "/proc/self/maps", "/proc/self/stat", "/proc/mounts"),
    *("/proc/filesystems", "/proc/cpuinfo", "/proc/modules", "/proc/self/limits"),
    *("/proc/vmstat", "/proc/net/dev", "/proc/interrupts", "/proc/self/wchan"),
)


def load_name(profiles: Sequence[LoadProfile | Path]) -> str:
    """Return the id of the check under these loads."""
    return f"under-{names_of(profiles)}"


def names_of(profiles: Sequence[LoadProfile | Path]) -> str:
    """Return the names of loads in one word."""
    return "+".join(label(profile) for profile in profiles)


def run_under(scene: Scene, profiles: Sequence[LoadProfile | Path]) -> None:
    """Load and unload the patch under these loads at once."""
    files = (*FILES, *files_of_targets(scene)) if LoadProfile.SYSCALLS in profiles else ()
    scene.load_targets()
    before = read_state(scene.machine)
    used = [target.name for target in scene.case.loadable]
    load = Load(scene.machine, samples=scene.case.samples, files=files, used=used)
    within_s = scene.within_s * _MORE_TIME
    with scene.step(load_name(profiles)) as step:
        try:
            for profile in profiles:
                load.start(profile)
            load.check()
            patch = scene.load()
            enabled = scene.wait_complete(patch, within_s)
            expect_redirected(scene, patch)
            with scene.executed.during("load", When.DURING):
                _work(scene, profiles)
            load.check()
            disabled = scene.disable(patch, within_s)
            scene.unload(patch)
        finally:
            load.stop()
        expect_unpatched(scene, before)
        step.passed(f"patched in {enabled.seconds:.1f} s, unpatched in {disabled.seconds:.1f} s")


def _work(scene: Scene, profiles: Sequence[LoadProfile | Path]) -> None:
    """Let the load run while the patch is enabled, and run the user's check meanwhile.

    It lasts by CPU time too: on a busy host, seconds alone would mean little load.
    """
    thorough = scene.case.request.thorough
    least_s = _THOROUGH_HOLD_S if thorough else _HOLD_S
    least = Deadline.after(least_s)
    is_users = any(isinstance(each, Path) for each in profiles)
    end = Deadline.after(max(least_s, _MOST_USERS_HOLD_S) if is_users else _MOST_HOLD_S)
    work_s = _THOROUGH_WORK_S if thorough else _WORK_S
    until_s = scene.machine.hypervisor.cpu_s() + work_s
    while not end.expired:
        scene.check(When.DURING)
        scene.hold(_LOOK_S)
        if least.expired and scene.machine.hypervisor.cpu_s() >= until_s:
            return


def files_of_targets(scene: Scene) -> tuple[str, ...]:
    """Return the files that the targets create and that can be read to their end.

    They are read in another guest, because a reader that sleeps in a patched function would hold
    the transition.
    """
    if not scene.case.loadable:
        return ()
    with scene.another_guest() as machine:
        before = read_state(machine).entries
        for target in scene.case.loadable:
            machine.insmod(machine.upload(target.path))
        created = sorted(read_state(machine).entries - before)
        files = [path for place in created for path in _files_below(machine, place)]
        return tuple(path for path in files[:_MOST_FILES] if _can_be_read(machine, path))


def _files_below(machine: Machine, place: str, depth: int = 2) -> Iterator[str]:
    """Yield the readable files below a place of sysfs, procfs or debugfs; devices are left out."""
    if place.startswith("/dev"):
        return
    try:
        entries = machine.list_dir(place)
    except NotADirectoryError:
        yield place
        return
    except OSError:
        return
    for entry in entries:
        path = f"{place}/{entry.name}"
        if entry.type == "file" and entry.mode & 0o444:
            yield path
        elif entry.type == "dir" and depth:
            yield from _files_below(machine, path, depth - 1)


def _can_be_read(machine: Machine, path: str) -> bool:
    process = machine.spawn("cat", path)
    try:
        process.wait(Deadline.after(_PROBE_S * machine.time_scale))
    except TimeoutError:
        return False
    return True
