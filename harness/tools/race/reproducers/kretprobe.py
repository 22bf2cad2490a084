# SPDX-License-Identifier: GPL-2.0-only
"""A task with a kretprobe on its stack that has been woken, and has no CPU yet.

A transition looks at the stack of each task that is on no CPU (klp_check_and_switch_task() of
kernel/livepatch/transition.c), and such a task is one. But rethook_find_ret_addr()
(kernel/trace/rethook.c), which finds the return address that a kretprobe replaced, warns for a task
that is runnable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import TRANSITION_S, scaled
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.livepatch.tasks import Tasks
    from harness.tools.race.trial_context import TrialContext

PROBE, PROBED = "klp_test_kretprobe", "klp_gate_sleep"
SPINNER, PATCH = "klp_target_ticks", "klp_test_gate"
FIRST_CPU = "1"  # a mask, as taskset(1) takes it
_DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"

# Argument: the sleeper. Keeps the second CPU busy, wakes the sleeper, which may run on no other,
# and prints whether the transition has "looked" at it. There is no pause, so that the first CPU is
# not idle: its timers would go to the busy one. All of it runs in the guest, whose network may be
# blocked meanwhile.
_WAKE = """
spin=/sys/kernel/klp_ticks/spin
looks() { dmesg | grep -cE ":$1 (has an unreliable stack|is sleeping on function)"; }
taskset -p 2 $1 >/dev/null
taskset 2 sh -c "echo 1 >$spin" &
while [ "$(cat $spin)" != 1 ]; do :; done
echo open 0 >/dev/klp_gate
before=$(looks $1)
result=
while [ -z "$result" ]; do
    if [ "$(looks $1)" != "$before" ]; then result=looked
    elif [ "$(cat $spin)" != 1 ]; then result='the other CPU is idle'
    fi
done
echo 0 >$spin
echo "$result"
"""


@reproducer(
    "kretprobe-woken",
    rule="FT-06",
    shows=r"(rethook|kretprobe)_find_ret_addr",
    needs=("CONFIG_KPROBES", "CONFIG_DYNAMIC_DEBUG"),
)
def kretprobe_woken(context: TrialContext, gates: Gates, tasks: Tasks) -> None:
    """A transition checks a task that was just woken in a kretprobe: the kernel warns."""
    guest = context.guest
    guest.write(_DYNAMIC_DEBUG, "func klp_try_switch_task +p\n")
    context.livepatch.load_target(SPINNER, ticking=False)
    context.livepatch.load_target(PROBE, function=PROBED)
    sleeper = gates.enter()
    # The retries of a transition go on where it was started.
    path = guest.upload(context.modules[PATCH])
    loaded = guest.run(["taskset", FIRST_CPU, "insmod", path])
    if not loaded.ok:
        raise HarnessError(f"{PATCH} was not loaded", details=tuple(loaded.stderr.splitlines()))
    patch = context.livepatch.patch(PATCH)
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    waking = guest.spawn("taskset", FIRST_CPU, "sh", "-c", _WAKE, "wake", str(sleeper.tid))
    printed = waking.next_line(scaled(guest, TRANSITION_S))
    if printed != "looked":
        raise HarnessError(f"the transition did not check the woken task in time: {printed}")
    sleeper.leave()
    patch.wait_complete()
    patch.disable()
    patch.unload()
