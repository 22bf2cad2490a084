# SPDX-License-Identifier: GPL-2.0-only
"""Many shells in the guest that use livepatches at the same time, each for some rounds."""

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

# How the kernel may fail under any of these, beside a warning of the livepatch core itself.
BROKEN = (
    rf"{LIVEPATCH_WARNS}|WARNING: .*\b(kobject|refcount|ftrace)|page fault|NULL pointer|"
    r"general protection|possible recursive locking|circular locking|use-after-free"
)
_TARGET = "klp_target_mod"
_TARGET_F = "/sys/kernel/klp_target/f"
_WRITERS = 8
_READERS = 2
_COMPLETE_FIRST = 0.5

# Bodies of loops. Argument of the first two: the patch's folder in sysfs.
_DISABLE = """
    echo 0 >"$1/enabled"
    echo 1 >"$1/force"
"""
_READ = """
    cat "$1"/* "$1"/*/* >/dev/null
"""
# Arguments: the patch's folder, an attribute, the values to write into it in turn.
_WRITE = """
    for value in $3; do echo $value >"$1/$2"; done
"""
# Arguments: a module's file, its name.
_LOAD_UNLOAD = """
    insmod "$1"
    while [ -d "/sys/module/$2" ]; do rmmod "$2"; done
"""
# Arguments: a livepatch's file, its name. Another's transition refuses load and disable.
_CYCLE = """
    insmod "$1" || continue
    while [ -d "/sys/kernel/livepatch/$2" ]; do echo 0 >"/sys/kernel/livepatch/$2/enabled"; done
    while [ -d "/sys/module/$2" ]; do rmmod "$2"; done
"""


@reproducer("crowd-sysfs", rule="SY-06", shows=BROKEN, chance=True)
def crowd_sysfs(guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """Ten shells write and read all attributes of a patch until it is gone."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    shells = [start_shell(guest, _DISABLE, patch.path) for _ in range(_WRITERS)]
    shells += [start_shell(guest, _READ, patch.path) for _ in range(_READERS)]
    run_all(guest, shells)
    patch.wait_gone()
    expect_settled(tasks)


@reproducer("crowd-force", rule="FC-01", shows=BROKEN, chance=True)
def crowd_force(
    guest: Machine, livepatch: Livepatch, gates: Gates, tasks: Tasks, chance: Random
) -> None:
    """One shell forces a transition while two reverse it, and a task sleeps in either body."""
    in_old_body = gates[0].enter()
    patch = livepatch.load("klp_test_gate")
    in_new_body = gates[1].enter()
    rounds = chance.randint(5, 50)
    writes = (("enabled", "0 1"), ("enabled", "1 0"), ("force", "1"))
    shells = [start_shell(guest, _WRITE, patch.path, *what, rounds=rounds) for what in writes]
    run_all(guest, shells)
    in_old_body.release()
    in_new_body.release()
    patch.wait_complete()
    expect_settled(tasks)


@reproducer("crowd-target", rule="MO-06", shows=BROKEN, chance=True)
def crowd_target(
    context: TrialContext, guest: Machine, livepatch: Livepatch, chance: Random
) -> None:
    """A target is loaded and unloaded while its patch is enabled, reversed and disabled."""
    shells = [load_unload(context, _TARGET, rounds=chance.randint(10, 30))]
    start_all(shells)
    deadline = scaled(guest, 2 * TRANSITION_S)
    for _ in range(2):
        patch = livepatch.load("klp_test_target_fg")
        if chance.random() < _COMPLETE_FIRST:
            patch.wait_complete()
        patch.disable()  # reverses the transition when it has not ended
        patch.unload()
    for process in shells:
        process.wait(deadline)
    patch = livepatch.load("klp_test_target_fg", wait=True)
    livepatch.load_target(_TARGET)
    text = guest.read(_TARGET_F).strip()
    if patch.name not in text:
        raise RaceShown(
            f"{_TARGET} was loaded while {patch.name} was enabled, and is not patched: {text}"
        )


@reproducer("crowd-load", rule="LD-08", shows=BROKEN, chance=True)
def crowd_load(context: TrialContext, guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """Four patches of one function are loaded, disabled and unloaded at the same time."""
    rounds = context.chance.randint(3, 6)
    names = [f"klp_test_cmdline_{letter}" for letter in "abcd"]
    run_all(guest, [cycle(context, name, rounds=rounds) for name in names])
    expect_no_patches(livepatch)
    expect_settled(tasks)


def start_shell(
    guest: Machine, body: str, *words: str, rounds: int | None = None
) -> SpawnedProcess:
    """Start a shell that waits for a line and then runs a loop; raises TimeoutError.

    The loop ends after so many rounds, or without a number when the folder ``$1`` is gone.
    """
    condition = '-d "$1"' if rounds is None else f"$((round += 1)) -le {rounds}"
    script = f"echo ready; read -r _\nwhile [ {condition} ]; do\n{body}done 2>/dev/null\nexit 0\n"
    process = guest.spawn("sh", "-c", script, "crowd", *words)
    process.next_line(scaled(guest, TRANSITION_S))
    return process


def cycle(context: TrialContext, name: str, *, rounds: int) -> SpawnedProcess:
    """Start a shell that loads, disables and unloads a livepatch so many times."""
    file = context.guest.upload(context.modules[name])
    return start_shell(context.guest, _CYCLE, file, name, rounds=rounds)


def load_unload(context: TrialContext, name: str, *, rounds: int) -> SpawnedProcess:
    """Start a shell that loads and unloads a module so many times."""
    file = context.guest.upload(context.modules[name])
    return start_shell(context.guest, _LOAD_UNLOAD, file, name, rounds=rounds)


def run_all(guest: Machine, shells: list[SpawnedProcess]) -> None:
    """Have all of them begin at the same time, and wait for their end; raises TimeoutError."""
    start_all(shells)
    await_end(guest, shells)


def start_all(shells: list[SpawnedProcess]) -> None:
    """Have all of them begin."""
    for process in shells:
        process.write_line("go")


def await_end(guest: Machine, shells: list[SpawnedProcess]) -> None:
    """Wait until all have ended; raises TimeoutError."""
    deadline = scaled(guest, 4 * TRANSITION_S)
    for process in shells:
        process.wait(deadline)


def expect_no_patches(livepatch: Livepatch) -> None:
    """Raise RaceShown when a patch is left, though all were disabled."""
    left = livepatch.patches()
    if left:
        raise RaceShown(f"patches are left that were disabled: {left}")
