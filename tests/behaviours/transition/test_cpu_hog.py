# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that no kworker gets: the end of a transition waits there, with the livepatch lock held."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import pytest

from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import TRANSITION_S, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

PATCH, TARGET = "klp_test_target_fg", "klp_target_mod"
FIRST_CPU = "1"  # a mask, as taskset(1) takes it

# Arguments: the patch's module, its directory, a command, and a function. Loads the patch while a
# real-time task has the second CPU; once the end of its transition waits for that CPU, starts the
# command, and prints "waits" when that sleeps in the function, in the way to the lock. Then ends
# the real-time task and prints how the command ended. All of it in the guest, whose network may
# stop with a busy CPU.
_HELD = """
klp-hog 1 >/hog &
hog=$!
while [ ! -s /hog ]; do sleep 0.1; done
insmod $1 &
tries=0
until cat /proc/[0-9]*/stack 2>/dev/null | grep -q schedule_on_each_cpu; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || { echo 'the end does not wait'; exit 1; }
    sleep 0.1
done
sh -c "$3" 2>/said &
tries=0
until cat /proc/[0-9]*/stack 2>/dev/null | grep -q "$4"; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || { echo "no task is in $4"; break; }
    sleep 0.1
done
[ $tries -ge 100 ] || echo waits
cat $2/transition
kill -9 $hog
wait $!
echo "code $?"
"""


class Asked(StrEnum):
    """What is asked of livepatch meanwhile; each needs the lock."""

    DISABLE = "enabled_store"
    FORCE = "force_store"
    TARGET = "klp_module_coming"


@pytest.mark.smp(2)
@pytest.mark.behaviour("TR-37")
@pytest.mark.parametrize("asked", Asked, ids=lambda asked: asked.name.lower())
def test_end_waits_for_a_cpu(
    guest: Machine,
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    view: Guestview,
    asked: Asked,
) -> None:
    """What needs the lock waits as long as the real-time task runs, and then does its work."""
    patch = livepatch.patch(PATCH)
    if asked is Asked.TARGET:
        command = f"exec insmod {guest.upload(sample_modules[TARGET])}"
    else:
        value, name = ("0", "enabled") if asked is Asked.DISABLE else ("1", "force")
        command = f"echo {value} >{patch.path}/{name}"
    script = guest.spawn(
        "taskset", FIRST_CPU, "sh", "-c", _HELD, "held",
        guest.upload(sample_modules[PATCH]), patch.path, command, asked.value,
    )  # fmt: skip
    assert list(script.lines(scaled(guest, TRANSITION_S))) == [
        "waits",
        "1",
        # Once the transition has ended there is none to be forced.
        "code 1" if asked is Asked.FORCE else "code 0",
    ]
    if asked is Asked.DISABLE:
        patch.wait_gone()
        return
    patch.wait_complete()
    assert patch.enabled
    if asked is Asked.TARGET:
        assert view.target("f") == PATCH
