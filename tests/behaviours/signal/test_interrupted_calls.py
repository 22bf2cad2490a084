# SPDX-License-Identifier: GPL-2.0-only
"""What a program sees of the fake signal, in the system call that holds the transition."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, TaskHandle, Tasks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.livepatch.guest import GuestProcess
    from harness.vm.guest.machine import Machine

PATCH, PROGRAM = "klp_test_calls", "klp-wait"
RESTART_SYSCALL = "219"  # arch/x86/entry/syscalls/syscall_64.tbl


class End(StrEnum):
    """How a call ends that the fake signal interrupts."""

    INTERRUPTED = "it returns EINTR"
    AGAIN = "it is made again, and runs the new body"
    CONTINUED = "it sleeps on, in restart_syscall(2)"


# signal(7) has the calls that are never restarted; of the others, those with a time limit that
# counts from the first call go on in restart_syscall(2).
ENDS = {
    "epoll_wait": End.INTERRUPTED,
    "rt_sigtimedwait": End.INTERRUPTED,
    "semtimedop": End.INTERRUPTED,
    "io_getevents": End.INTERRUPTED,
    "futex": End.AGAIN,
    "futex timeout": End.CONTINUED,
}
# The functions that are on the stack, where that is not the one named after the call.
FUNCTIONS = {"semtimedop": "do_semtimedop"}


def function(call: str) -> str:
    """Return the function of a system call that is patched."""
    name = call.split()[0]
    return FUNCTIONS.get(name, f"__x64_sys_{name}")


@dataclass(frozen=True, kw_only=True)
class Waiter:
    """A program that sleeps in a system call."""

    call: str
    program: GuestProcess
    task: TaskHandle

    def returned(self, guest: Machine) -> dict[str, int]:
        """Wait until its call has returned; return what it printed."""
        line: dict[str, int] = json.loads(self.program.next_line(scaled(guest, QUICK_S)))
        return line


def start(guest: Machine, tasks: Tasks, call: str) -> Waiter:
    """Start a program and wait until it sleeps in the call."""
    program = guest.spawn(PROGRAM, *call.split())
    tid = int(json.loads(program.next_line(scaled(guest, QUICK_S)))["waiting"])
    waiter = Waiter(call=call, program=program, task=tasks.get(tid))
    inside = f" {function(call)}+"
    asleep = wait_until(
        lambda: any(inside in line for line in waiter.task.stack()), scaled(guest, QUICK_S)
    )
    assert asleep, f"{call}: {waiter.task.stack()}"
    return waiter


def restarted(guest: Machine, waiter: Waiter) -> bool:
    """Return whether the program sleeps in restart_syscall(2)."""
    return guest.read(f"/proc/{waiter.task.tid}/syscall").split()[0] == RESTART_SYSCALL


@pytest.mark.slow(17)
@pytest.mark.behaviour("SG-05")
@pytest.mark.parametrize(
    "calls",
    [
        pytest.param(("epoll_wait", "rt_sigtimedwait", "futex", "futex timeout"), id="most"),
        pytest.param(("semtimedop",), marks=pytest.mark.needs("CONFIG_SYSVIPC"), id="semtimedop"),
        pytest.param(("io_getevents",), marks=pytest.mark.needs("CONFIG_AIO"), id="io_getevents"),
    ],
)
def test_what_a_program_sees(
    guest: Machine,
    livepatch: Livepatch,
    tasks: Tasks,
    kernel_log: KernelLog,
    calls: tuple[str, ...],
) -> None:
    """Each program leaves its call, switches, and sees EINTR or nothing; no handler has run."""
    waiters = [start(guest, tasks, call) for call in calls]
    patch = livepatch.load(PATCH, functions=",".join({function(call) for call in calls}))
    # init, too, sleeps in rt_sigtimedwait(2).
    held_by = [waiter.task for waiter in waiters]
    tasks.wait_all(PatchState.PATCHED, held_by=held_by, but=tasks.get(1))
    assert not kernel_log.matching("signaling remaining tasks")
    patch.wait_complete()
    assert kernel_log.matching("signaling remaining tasks")
    expected = {End.INTERRUPTED: errno.EINTR, End.AGAIN: errno.ENOANO}
    for waiter in waiters:
        end = ENDS[waiter.call]
        if end is End.CONTINUED:
            assert wait_until(partial(restarted, guest, waiter), scaled(guest, QUICK_S)), (
                waiter.call
            )
            continue
        seen = {"returned": -1, "errno": expected[end], "handled": 0}
        assert waiter.returned(guest) == seen, end
