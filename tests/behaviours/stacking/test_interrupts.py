# SPDX-License-Identifier: GPL-2.0-only
"""Functions that interrupts and idle CPUs call (842c0884, klp_synchronize_transition())."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.agent_protocol import Op
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, TRANSITION_S, poll, scaled
from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.held_cpu import disable_sync

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

TARGET, PATCH = "klp_target_ticks", "klp_test_ticks"
TICKS = "/sys/kernel/klp_ticks"
IDLE_ROUTINES = ("default_idle", "mwait_idle", "amd_e400_idle")
ROUNDS = 3
LOWER, UPPER = "klp_test_gate", "klp_test_gate_callbacks"
FIRST_CPU = "1"  # a mask, as taskset(1) takes it

# Arguments: the sleeper, and the patch's directory. Keeps the second CPU busy, opens the sleeper's
# gate, and prints what is first: the transition "ended", or a kernel thread "waits" for that CPU.
# All of it in the guest, whose network may stop with a busy CPU.
_HELD = """
spin=/sys/kernel/klp_ticks/spin
taskset -p 1 $1 >/dev/null
taskset 2 sh -c "echo 1 >$spin" &
while [ "$(cat $spin)" != 1 ]; do sleep 0.1; done
echo open 0 >/dev/klp_gate
said=
while [ -z "$said" ]; do
    sleep 0.1
    if [ "$(cat $2/transition 2>/dev/null)" != 1 ]; then said=ended
    elif [ "$(cat $spin)" != 1 ]; then said='spun to no end'
    elif cat /proc/[0-9]*/stack 2>/dev/null | grep -q schedule_on_each_cpu; then said=waits
    fi
done
echo 0 >$spin
echo "$said"
"""


@pytest.mark.slow(12)
@pytest.mark.behaviour("ST-03")
def test_toggled_under_interrupts_and_idle(livepatch: Livepatch, view: Guestview) -> None:
    """A function of interrupts and one of idle CPUs are patched again and again.

    RCU does not watch an idle CPU in its idle routine. Since 6.3 these are noinstr and cannot be
    patched; there the test has the interrupts only.
    """
    guest = livepatch.guest
    livepatch.load_target(TARGET)
    idle = ",".join(routine for routine in IDLE_ROUTINES if view.traceable(routine))
    for _ in range(ROUNDS):
        params: dict[str, Any] = {"idle": idle} if idle else {}
        patch = livepatch.load(PATCH, wait=True, **params)
        counts = ("ticks", "idles", "unwatched") if idle else ("ticks",)
        for count in counts:
            path = f"{patch.module.path}/parameters/{count}"
            assert poll(guest, path, Op.DIFFERS, "0", deadline=scaled(guest, QUICK_S)), count
        patch.disable()
        patch.unload()
        before = guest.read(f"{TICKS}/original").strip()
        assert poll(
            guest, f"{TICKS}/original", Op.DIFFERS, before, deadline=scaled(guest, QUICK_S)
        ), "the original body does not run again"
    hooked = view.enabled_functions()
    assert not [name for name in ("klp_tick", *IDLE_ROUTINES) if name in hooked]


@pytest.mark.slow(7)
@pytest.mark.behaviour("ST-03")
@pytest.mark.parametrize("enabling", [True, False], ids=["enabling", "disabling"])
def test_end_waits_for_every_cpu(
    guest: Machine,
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    tasks: Tasks,
    gate: Gates,
    enabling: bool,
) -> None:
    """A transition does not end before every CPU has left its code with preemption off.

    There it may have read the list of a function's patches and not called a body yet, and RCU need
    not watch it. Another patch of the function keeps ftrace's hook, whose removal would wait, too.
    """
    livepatch.load_target(TARGET, ticking=False)
    livepatch.load(LOWER, wait=True)
    upper = None if enabling else livepatch.load(UPPER, wait=True)
    sleeper = gate.enter()
    # The kernel goes on with its tries on the CPU of the first: not on the busy one.
    if upper is None:
        upper = livepatch.patch(UPPER)
        change = f"insmod {guest.upload(sample_modules[UPPER])}"
    else:
        change = f"echo 0 >{upper.path}/enabled"
    changing = guest.spawn("taskset", FIRST_CPU, "sh", "-c", change)
    assert changing.wait(scaled(guest, QUICK_S)) == 0
    state = PatchState.PATCHED if enabling else PatchState.UNPATCHED
    tasks.wait_all(state, held_by=sleeper)
    held = guest.spawn(
        "taskset", FIRST_CPU, "sh", "-c", _HELD, "held", str(sleeper.tid), upper.path
    )
    assert held.next_line(scaled(guest, TRANSITION_S)) == "waits"
    if enabling:
        upper.wait_complete()
        assert upper.exists
    else:
        upper.wait_gone()


@pytest.mark.slow(9)
@pytest.mark.needs("CONFIG_OPTPROBES")
@pytest.mark.behaviour("ST-03")
def test_end_waits_after_the_function_is_removed(
    guest: Machine, sample_modules: Mapping[str, Path]
) -> None:
    """The patch states are reset when no CPU is about to call a removed function any more."""
    run_steps(disable_sync, guest, modules=sample_modules)
