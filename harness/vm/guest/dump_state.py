# SPDX-License-Identifier: GPL-2.0-only
"""Makes a guest that does not answer print on its console where it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.deadline import Deadline, wait_until
from harness.errors import CommandTimeout, QemuFailed
from harness.vm.guest.qemu import SERIAL_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.vm.guest.console import Console
    from harness.vm.guest.qmp import Monitor

_DUMP_S = 3.0
# Measured on a loaded host: two spinning CPUs of a slow guest leave panic() little CPU time.
_NMI_S = 60.0
_SETTLE_S = 3.0


def dump_state(
    monitor: Monitor, console: Console, is_dead: Callable[[], bool], *, sysrq: bool
) -> None:
    """Have the guest print its tasks and stacks, as far as it can, and wait until it has.

    SysRq T over the serial line, unless ``sysrq`` is False, lists all tasks when interrupts still
    work; the NMI makes a guest with stuck CPUs panic with their stacks. The monitor has answered
    just before: one that is silent now costs the dump, and changes no verdict.
    """
    deadline = Deadline.after(_DUMP_S + _NMI_S)
    with contextlib.suppress(QemuFailed, CommandTimeout):
        before = console.size
        if sysrq:
            monitor.execute("chardev-send-break", {"id": SERIAL_ID}, deadline=deadline)
            console.write("t")
            _await_quiet_console(console, before)
        monitor.execute("inject-nmi", deadline=deadline)
        # panic() first tries for seconds to stop the CPUs that do not listen, then prints.
        if wait_until(is_dead, deadline.within(_NMI_S)):
            wait_until(lambda: console.ended, Deadline.after(_SETTLE_S))


def _await_quiet_console(console: Console, before: int) -> None:
    def grows(size: int, seconds: float) -> bool:
        return wait_until(lambda: console.size > size, Deadline.after(seconds))

    deadline = Deadline.after(_DUMP_S)
    grows(before, 1.0)
    while grows(console.size, 0.5) and not deadline.expired:
        pass
