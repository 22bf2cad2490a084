# SPDX-License-Identifier: GPL-2.0-only
"""Each way in which a guest can end is an error of its own, with console and logs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import (
    BootFailed,
    GuestHang,
    GuestPanic,
    GuestReset,
    KernelSplat,
    KlpError,
    LostConnection,
    LostGuest,
)
from harness.vm.guest.session import Fresh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel
    from tests.guest.conftest import BreakKernel


def _has_console_and_logs(error: KlpError, machine: Machine) -> None:
    assert error.details, "the console's lines are missing"
    assert error.artefacts == machine.folder
    assert (machine.folder / "console.log").exists()


@pytest.fixture
def doomed(
    kernel: Kernel, klp_session: Session, request: pytest.FixtureRequest
) -> Iterator[Machine]:
    """A guest that the test kills. Not the fixture ``guest``, whose checks would fail the test."""
    with klp_session.guest(kernel, name=request.node.name) as machine:
        yield machine


def test_panic(doomed: Machine, break_kernel: BreakKernel) -> None:
    """A panic is GuestPanic with the panic's own text, while the request is still open."""
    with pytest.raises(GuestPanic, match="panic") as raised:
        break_kernel(doomed, "panic")
    _has_console_and_logs(raised.value, doomed)
    assert any("Kernel panic" in line for line in raised.value.details)


def test_oops_is_a_splat(doomed: Machine, break_kernel: BreakKernel) -> None:
    """An oops in a module's init is KernelSplat, named by what the kernel printed."""
    with pytest.raises(KernelSplat, match="NULL pointer") as raised:
        break_kernel(doomed, "oops")
    _has_console_and_logs(raised.value, doomed)


def test_warning_fails_the_check(doomed: Machine, break_kernel: BreakKernel) -> None:
    """A WARNING leaves the guest alive; the check at a test's end finds it."""
    break_kernel(doomed, "warn")
    with pytest.raises(KernelSplat, match="WARNING") as raised:
        doomed.check_splats()
    _has_console_and_logs(raised.value, doomed)


def test_declared_warning_is_no_error(doomed: Machine, break_kernel: BreakKernel) -> None:
    """A splat that the test has declared is none; a declared one that never comes is an error."""
    doomed.expect_splat("WARNING.*klp_bad")
    with pytest.raises(KernelSplat, match="did not come"):
        doomed.check_splats()
    break_kernel(doomed, "warn")
    doomed.check_splats()


def test_splat_that_may_come(doomed: Machine, break_kernel: BreakKernel) -> None:
    """A splat that is declared, and not required, is no error whether it comes or not."""
    doomed.expect_splat("WARNING.*klp_bad", required=False)
    doomed.check_splats()
    break_kernel(doomed, "warn")
    doomed.check_splats()


@pytest.mark.slow(33)
def test_hang(doomed: Machine, break_kernel: BreakKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """All CPUs stuck with interrupts off: GuestHang; an NMI made the kernel print its stacks."""
    # Its CPUs are the host's while it spins.
    monkeypatch.setattr("harness.vm.guest.agent_link.HANG_AFTER_S", 2.0)
    with pytest.raises(GuestHang, match="hangs") as raised:
        break_kernel(doomed, "hang")
    _has_console_and_logs(raised.value, doomed)
    console = (doomed.folder / "console.log").read_text()
    told = console.partition("Kernel panic - not syncing: NMI")[2]
    assert "klp_bad_spin" in console, "the NMI did not show where it hangs"
    assert told, "the NMI made no panic"


def test_killed_qemu(doomed: Machine) -> None:
    """QEMU killed from outside is LostGuest: the host's fault, never a verdict on the kernel."""
    os.kill(doomed.hypervisor.pid, signal.SIGKILL)
    with pytest.raises(LostGuest, match="SIGKILL") as raised:
        doomed.tasks()
    _has_console_and_logs(raised.value, doomed)


def test_reset_without_panic(doomed: Machine) -> None:
    """A guest that resets itself is GuestReset."""
    with pytest.raises(GuestReset, match="reset itself") as raised:
        doomed.run(["sh", "-c", "echo b >/proc/sysrq-trigger; sleep 60"])
    _has_console_and_logs(raised.value, doomed)


@pytest.mark.parametrize("command", ["poweroff", "halt"])
def test_power_off_and_halt(doomed: Machine, command: str) -> None:
    """Whether the kernel can power the machine off or not, it is said at once."""
    with pytest.raises(GuestReset, match=r"(powered|halted) itself") as raised:
        doomed.run([command, "-f"])
    _has_console_and_logs(raised.value, doomed)


def test_lost_connection(doomed: Machine) -> None:
    """The end of the agent, or of SSH, while the guest runs is LostConnection, said at once."""
    channel = doomed.pipe(["sh", "-c", "killall dropbear; sleep 60"])
    assert channel.recv(1) == b""
    with pytest.raises(LostConnection):
        doomed.pipe(["true"])
    with pytest.raises(LostConnection, match="agent") as raised:
        doomed.run(["sh", "-c", "killall klp-agent; sleep 60"], deadline=doomed.scaled(60))
    _has_console_and_logs(raised.value, doomed)


def test_slow_command_is_no_verdict(doomed: Machine) -> None:
    """A command that takes too long in a healthy guest is a TimeoutError; the guest lives on."""
    with pytest.raises(TimeoutError):
        doomed.run(["sleep", "600"], deadline=Deadline.after(8.0))
    assert doomed.run(["echo", "alive"]).stdout == "alive\n"


@pytest.mark.slow(26)
def test_boot_that_never_comes(kernel: Kernel, klp_session: Session) -> None:
    """A guest that never gets its user space up is BootFailed at its deadline, with its console."""
    with pytest.raises(BootFailed, match="did not reach user space") as raised:
        _boot(kernel, klp_session, "rdinit=/bin/cat", boot_s=25)
    assert raised.value.details
    assert raised.value.artefacts is not None
    assert "Run /bin/cat as init" in (raised.value.artefacts / "console.log").read_text()


def test_boot_that_panics(kernel: Kernel, klp_session: Session) -> None:
    """A panic while booting is GuestPanic as soon as it happens, not a time-out."""
    with pytest.raises(GuestPanic, match="Attempted to kill init"):
        _boot(kernel, klp_session, "rdinit=/bin/true")


def test_cpus_asked_for_are_cpus_seen(kernel: Kernel, klp_session: Session) -> None:
    """A guest that brings up fewer CPUs than asked for is BootFailed and says how many."""
    with pytest.raises(BootFailed, match="asked for 2 CPUs and brought up 1"):
        _boot(kernel, klp_session, "maxcpus=1")


def _boot(
    kernel: Kernel, klp_session: Session, *kernel_args: str, boot_s: float | None = None
) -> None:
    with klp_session.guest(
        kernel, name="boot", fresh=Fresh.BOOT, kernel_args=kernel_args, boot_s=boot_s
    ):
        pytest.fail("the guest came up")


def test_no_qemu_outlives_its_guest(kernel: Kernel, klp_session: Session) -> None:
    """Leaving a guest's context ends its QEMU."""
    with klp_session.guest(kernel, name="short-lived") as machine:
        pid = machine.hypervisor.pid
        os.kill(pid, 0)
    assert wait_until(lambda: not Path(f"/proc/{pid}").exists(), Deadline.after(5))
