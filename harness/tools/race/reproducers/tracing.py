# SPDX-License-Identifier: GPL-2.0-only
"""Livepatches beside tracers, kprobes and CPUs that go offline; and patches that replace others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import RaceShown
from harness.livepatch.gates import Body
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.crowd import (
    BROKEN,
    await_end,
    cycle,
    expect_no_patches,
    load_unload,
    run_all,
    start_all,
    start_shell,
)
from harness.tools.race.reproducers.storm import end_storm, expect_settled, start_storm

if TYPE_CHECKING:
    from random import Random

    from harness.livepatch.gates import Gates
    from harness.livepatch.patch import Livepatch
    from harness.livepatch.tasks import Tasks
    from harness.tools.race.trial_context import TrialContext
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.spawned import SpawnedProcess

_TRACING = "/sys/kernel/tracing"
_CPU = "/sys/devices/system/cpu/cpu1/online"
_KPROBE = "klp_test_kprobe"
_REVERSALS = 3
# What a kernel with CONFIG_PROVE_LOCKING reports of locks in a wrong order.
_LOCKDEP = (
    rf"{BROKEN}|possible (circular locking|recursive locking|irq lock inversion)|"
    r"inconsistent lock state|suspicious RCU usage|sleeping function called|held lock freed"
)

# Bodies of loops. Argument: the folder of tracing.
_TRACERS = """
    for tracer in function function_graph nop; do echo $tracer >"$1/current_tracer"; done
"""
# Argument: a file with 0 or 1 in it.
_TOGGLE = """
    for value in 0 1; do echo $value >"$1" || exit 1; done
"""
# Arguments: a module's file, its name, a parameter. It may be refused.
_PROBE = """
    insmod "$1" "$3" || continue
    while [ -d "/sys/module/$2" ]; do rmmod "$2"; done
"""
# Arguments: file and name of two livepatches. Each replaces the other, and all else.
_REPLACE = """
    insmod "$1" replace=1
    rmmod "$4"
    insmod "$3" replace=1
    rmmod "$2"
"""


@reproducer("crowd-tracer", rule="FT-05", shows=BROKEN, chance=True)
def crowd_tracer(
    context: TrialContext,
    guest: Machine,
    livepatch: Livepatch,
    gates: Gates,
    tasks: Tasks,
    chance: Random,
) -> None:
    """Tracers and a kprobe are attached to the patched function while a transition is reversed."""
    guest.write(f"{_TRACING}/set_ftrace_filter", "klp_gate_wait\n")
    sleeper = gates[0].enter()
    patch = livepatch.load("klp_test_gate")
    in_new_body = gates[1].enter()
    shells = [_tracers(context), _probe(context, "klp_gate_wait")]
    start_all(shells)
    for _ in range(2 * chance.randint(1, _REVERSALS)):
        patch.reverse()
    await_end(guest, shells)
    sleeper.release()
    in_new_body.release()
    patch.wait_complete()
    body = gates.call(2).body
    if body is not Body.PATCHED:
        raise RaceShown(f"the patch is enabled, and a call runs the {body} body")
    expect_settled(tasks)
    patch.disable()
    patch.unload()
    expect_settled(tasks)


@reproducer(
    "crowd-locks",
    rule="TR-14",
    shows=_LOCKDEP,
    needs=("CONFIG_PROVE_LOCKING", "CONFIG_HOTPLUG_CPU"),
    fragment="debug",
    chance=True,
)
def crowd_locks(context: TrialContext, guest: Machine, livepatch: Livepatch, tasks: Tasks) -> None:
    """Lock order: livepatches, a target, a kprobe, tracers and a CPU, all on and off at once."""
    # The locks are those of attaching. With all functions traced, such a kernel does nothing else.
    guest.write(f"{_TRACING}/set_ftrace_filter", "cmdline_proc_show\n")
    rounds = context.chance.randint(3, 6)
    shells = [
        cycle(context, "klp_test_cmdline_a", rounds=rounds),
        cycle(context, "klp_test_target_fg", rounds=rounds),
        load_unload(context, "klp_target_mod", rounds=rounds),
        start_shell(guest, _TOGGLE, _CPU, rounds=rounds),
        _probe(context, "cmdline_proc_show"),
        _tracers(context),
    ]
    run_all(guest, shells)
    expect_no_patches(livepatch)
    expect_settled(tasks)


@reproducer("crowd-replace", rule="RP-13", shows=BROKEN, chance=True)
def crowd_replace(
    context: TrialContext, guest: Machine, livepatch: Livepatch, tasks: Tasks
) -> None:
    """Two pairs of livepatches replace each other, and all else, while tasks fork."""
    livepatch.load_target("klp_target_mod")
    pairs = (
        ("klp_test_cmdline_a", "klp_test_target_fg"),
        ("klp_test_cmdline_b", "klp_test_cmdline_c"),
    )
    storm = start_storm(guest)
    rounds = context.chance.randint(3, 6)
    shells = []
    for pair in pairs:
        words = [word for name in pair for word in (guest.upload(context.modules[name]), name)]
        shells.append(start_shell(guest, _REPLACE, *words, rounds=rounds))
    run_all(guest, shells)
    for patch in livepatch.patches():
        patch.wait_complete()
    end_storm(guest, storm)
    left = livepatch.patches()
    if len(left) > 1:
        raise RaceShown(f"more than one patch is left of those that replace all others: {left}")
    for patch in left:
        patch.disable()
        patch.unload()
    expect_settled(tasks)


def _tracers(context: TrialContext) -> SpawnedProcess:
    rounds = context.chance.randint(5, 15)
    return start_shell(context.guest, _TRACERS, _TRACING, rounds=rounds)


def _probe(context: TrialContext, function: str) -> SpawnedProcess:
    file = context.guest.upload(context.modules[_KPROBE])
    rounds = context.chance.randint(5, 15)
    return start_shell(context.guest, _PROBE, file, _KPROBE, f"symbol={function}", rounds=rounds)
