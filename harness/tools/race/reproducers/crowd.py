# SPDX-License-Identifier: GPL-2.0-only
"""Crowds: shells in the guest that all do the same at a time, each its own number of rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import RaceShown
from harness.livepatch.waiting import TRANSITION_S, scaled
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.storm import LIVEPATCH_WARNS, expect_settled

if TYPE_CHECKING:
    from random import Random

    from harness.livepatch.gates import Gates
    from harness.livepatch.patch import Livepatch
    from harness.livepatch.tasks import Tasks
    from harness.tools.race.trial_context import TrialContext
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

# What any of these may come to, beside a warning of the livepatch core itself.
BROKEN = (
    rf"{LIVEPATCH_WARNS}|WARNING: .*\b(kobject|refcount|ftrace)|page fault|NULL pointer|"
    r"general protection|possible recursive locking|circular locking|use-after-free"
)
_TARGET = "klp_target_mod"
_TARGET_F = "/sys/kernel/klp_target/f"
_WRITERS = 8
_READERS = 2
_TURNED_ROUND = 0.5

# Argument: the patch's folder in sysfs. Each ends when the patch has gone.
_DISABLE = """
echo ready; read -r _
while [ -d "$1" ]; do
    echo 0 >"$1/enabled"
    echo 1 >"$1/force"
done 2>/dev/null
exit 0
"""
_READ = """
echo ready; read -r _
while [ -d "$1" ]; do
    cat "$1"/* "$1"/*/*
done >/dev/null 2>&1
exit 0
"""
# Arguments: the patch's folder, an attribute, what to write into it in turn, rounds.
_WRITE = """
echo ready; read -r _
round=0
while [ $round -lt $4 ]; do
    round=$((round + 1))
    for value in $3; do echo $value >"$1/$2"; done
done 2>/dev/null
exit 0
"""
# Arguments: a module's file, its name, rounds.
COME_AND_GO = """
echo ready; read -r _
round=0
while [ $round -lt $3 ]; do
    round=$((round + 1))
    insmod "$1" 2>/dev/null
    while [ -d "/sys/module/$2" ]; do rmmod "$2" 2>/dev/null; done
done
exit 0
"""
# Arguments: a livepatch's file, its name, rounds. Another's transition refuses load and disable.
CYCLE = """
echo ready; read -r _
patch=/sys/kernel/livepatch/$2
round=0
while [ $round -lt $3 ]; do
    round=$((round + 1))
    insmod "$1" || continue
    while [ -d "$patch" ]; do echo 0 >"$patch/enabled"; done
    while [ -d "/sys/module/$2" ]; do rmmod "$2"; done
done 2>/dev/null
exit 0
"""


@reproducer("crowd-sysfs", rule="SY-06", shows=BROKEN, chance=True)
def crowd_sysfs(guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """Ten at a time write and read all attributes of a patch until it is gone."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    crowd = [start_shell(guest, _DISABLE, patch.path) for _ in range(_WRITERS)]
    crowd += [start_shell(guest, _READ, patch.path) for _ in range(_READERS)]
    let_loose(guest, crowd)
    patch.wait_gone()
    expect_settled(tasks)


@reproducer("crowd-force", rule="FC-01", shows=BROKEN, chance=True)
def crowd_force(
    guest: Machine, livepatch: Livepatch, gates: Gates, tasks: Tasks, chance: Random
) -> None:
    """One forces a transition while two turn it round, and a task sleeps in either body."""
    in_old_body = gates[0].enter()
    patch = livepatch.load("klp_test_gate")
    in_new_body = gates[1].enter()
    rounds = str(chance.randint(5, 50))
    crowd = [
        start_shell(guest, _WRITE, patch.path, "enabled", "0 1", rounds),
        start_shell(guest, _WRITE, patch.path, "enabled", "1 0", rounds),
        start_shell(guest, _WRITE, patch.path, "force", "1", rounds),
    ]
    let_loose(guest, crowd)
    in_old_body.release()
    in_new_body.release()
    patch.wait_complete()
    expect_settled(tasks)


@reproducer("crowd-target", rule="MO-06", shows=BROKEN, chance=True)
def crowd_target(
    context: TrialContext, guest: Machine, livepatch: Livepatch, chance: Random
) -> None:
    """A target comes and goes while its patch is enabled, turned round and disabled."""
    file = guest.upload(context.modules[_TARGET])
    crowd = [start_shell(guest, COME_AND_GO, file, _TARGET, str(chance.randint(10, 30)))]
    for process in crowd:
        process.write_line("go")
    deadline = scaled(guest, 2 * TRANSITION_S)
    for _ in range(2):
        patch = livepatch.load("klp_test_target_fg")
        if chance.random() < _TURNED_ROUND:
            patch.wait_complete()
        patch.disable()  # turns the transition round when it has not ended
        patch.unload()
    for process in crowd:
        process.wait(deadline)
    patch = livepatch.load("klp_test_target_fg", wait=True)
    livepatch.load_target(_TARGET)
    text = guest.read(_TARGET_F).strip()
    if patch.name not in text:
        raise RaceShown(
            f"{_TARGET} came while {patch.name} was enabled, and is not patched: {text}"
        )


@reproducer("crowd-load", rule="LD-08", shows=BROKEN, chance=True)
def crowd_load(context: TrialContext, guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """Four patches of one function are loaded, disabled and unloaded at a time."""
    names = [f"klp_test_cmdline_{letter}" for letter in "abcd"]
    rounds = str(context.chance.randint(3, 6))
    crowd = [
        start_shell(guest, CYCLE, guest.upload(context.modules[name]), name, rounds)
        for name in names
    ]
    let_loose(guest, crowd)
    left = livepatch.patches()
    if left:
        raise RaceShown(f"patches are left that were disabled: {left}")
    expect_settled(tasks)


def start_shell(guest: Machine, script: str, *words: str) -> SpawnedProcess:
    """Start a shell with a script that says "ready" and waits for a line; raises TimeoutError."""
    process = guest.spawn("sh", "-c", script, "crowd", *words)
    process.next_line(scaled(guest, TRANSITION_S))
    return process


def let_loose(guest: Machine, crowd: list[SpawnedProcess]) -> None:
    """Let all of them begin, and wait until all have ended; raises TimeoutError."""
    begin(crowd)
    await_end(guest, crowd)


def begin(crowd: list[SpawnedProcess]) -> None:
    """Let all of them begin."""
    for process in crowd:
        process.write_line("go")


def await_end(guest: Machine, crowd: list[SpawnedProcess]) -> None:
    """Wait until all have ended; raises TimeoutError."""
    deadline = scaled(guest, 4 * TRANSITION_S)
    for process in crowd:
        process.wait(deadline)
