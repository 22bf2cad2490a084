# SPDX-License-Identifier: GPL-2.0-only
"""The race between the load of a patch and the unload of its target, held where it matters.

delete_module() (kernel/module/main.c) calls klp_module_going() after the target's exit, and then
waits for its asynchronous functions: one of them waits in a gate while the patch is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import HarnessError, ModuleRefused, RaceShown
from harness.livepatch.waiting import QUICK_S, poll, scaled
from harness.tools.race.reproducer import reproducer

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.livepatch.guest import Guest
    from harness.livepatch.patch import Livepatch

TARGET, FUNCTION = "klp_target_leaving", "klp_leaving_text"
PATCH = "klp_test_symbol"
GATE = 5
WAITS = "async_synchronize"
_WAITING = "/proc/klp_gate_waiting"
_HOOKS = "/sys/kernel/tracing/enabled_functions"


@reproducer("going-stale-target", rule="MO-05", fixed_by="8cb2c2dc")
def going_stale_target(livepatch: Livepatch, gates: Gates) -> None:
    """A patch loaded after klp_module_going() patches a target whose text is about to be freed."""
    guest = livepatch.guest
    livepatch.load_target(TARGET, late=True)
    gates.close(GATE)
    leaving = guest.spawn("/sbin/rmmod", TARGET)
    _await(guest, _WAITING, f"{GATE} ")
    _await(guest, f"/proc/{leaving.pid}/stack", WAITS)
    # async_probe: do_init_module() would wait for the asynchronous function as well.
    try:
        patch = livepatch.load(PATCH, object=TARGET, function=FUNCTION, async_probe=True)
    except ModuleRefused as error:
        # ftrace no longer knows the target's functions, so the kernel finds nothing to hook.
        raise RaceShown(
            f"{PATCH} is refused for {TARGET}, which klp_module_going() has left: {error.message}",
            details=error.details,
        ) from error
    if FUNCTION in guest.read(_HOOKS):
        raise RaceShown(
            f"{PATCH} patched {FUNCTION}() after klp_module_going({TARGET}), "
            "and stays attached when that text is freed"
        )
    gates.open(GATE)
    leaving.wait(scaled(guest, QUICK_S))
    patch.disable()
    patch.unload()


def _await(guest: Guest, path: str, what: str) -> None:
    if not poll(guest, path, Op.CONTAINS, what, deadline=scaled(guest, QUICK_S)):
        raise HarnessError(
            f"rmmod {TARGET} did not reach the race: {path} never showed {what.strip()}",
            details=tuple(guest.read(path).splitlines()),
        )
