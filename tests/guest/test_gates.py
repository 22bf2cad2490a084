# SPDX-License-Identifier: GPL-2.0-only
"""The gate device with many tasks in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline, wait_until

if TYPE_CHECKING:
    from harness.livepatch.gates import Gates
    from harness.vm.guest.machine import Machine

MANY = 1200


def test_each_of_many_sleepers_is_listed(guest: Machine, gate: Gates) -> None:
    """More than fit into a page, as a file in sysfs has; and the last one is among them."""
    deadline = Deadline.after(120)
    gate.close(0)
    guest.write("/proc/sys/kernel/threads-max", f"{2 * MANY}\n")
    crowd = guest.spawn("klp-sleepers", str(MANY), "0")
    assert crowd.next_line(deadline) == f'{{"entering":{MANY}}}'
    assert wait_until(lambda: len(gate.waiting(0)) == MANY, deadline, interval_s=0.2)
    assert len(set(gate.waiting(0))) == MANY
    last = gate.enter(1)
    assert gate.waiting(1) == [last.tid]
    gate.open()
    crowd.close_stdin()
    assert crowd.next_line(deadline) == f'{{"left":{MANY}}}'
    assert not gate.waiting(0)
