# SPDX-License-Identifier: GPL-2.0-only
"""What the host does to QEMU is never a verdict on the kernel: stops, starvation, lost lines."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.deadline import wait_until
from harness.errors import GuestReset, GuestStarved, GuestStopped, HarnessError, LogIncomplete
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.tools.boot.command import _script
from harness.vm.guest.session import Fresh
from harness.vm.host.process import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel


@pytest.fixture
def doomed(
    kernel: Kernel, klp_session: Session, request: pytest.FixtureRequest
) -> Iterator[Machine]:
    """A guest that the test hurts. Not the fixture ``guest``, whose checks would fail the test."""
    with klp_session.guest(kernel, name=request.node.name) as machine:
        yield machine


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop of two seconds is enough here."""
    monkeypatch.setattr("harness.vm.guest.liveness.STOPPED_S", 2.0)


def _stop(machine: Machine) -> None:
    os.kill(machine.hypervisor.pid, signal.SIGSTOP)


@contextlib.contextmanager
def _stopped_in_pulses(machine: Machine) -> Iterator[None]:
    """Stop QEMU for a second and let it run for half of one, so that it answers in between."""
    end = threading.Event()

    def pulse() -> None:
        while not end.is_set():
            _stop(machine)
            time.sleep(1.0)
            os.kill(machine.hypervisor.pid, signal.SIGCONT)
            end.wait(0.5)

    thread = threading.Thread(target=pulse)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_stopped_while_it_is_asked(doomed: Machine) -> None:
    """A QEMU that got SIGSTOP is no guest that hangs, and no fault of the kernel's."""
    _stop(doomed)
    with pytest.raises(GuestStopped, match="was stopped") as raised:
        doomed.tasks()
    assert raised.value.exit_code == 3
    assert raised.value.artefacts == doomed.folder


def test_stopped_while_a_command_runs(doomed: Machine) -> None:
    """Commands are watched as requests to the agent are, also while they take input."""
    _stop(doomed)
    with pytest.raises(GuestStopped):
        doomed.run(["cat"], stdin=b"x" * (8 << 20))


def test_stopped_before_it_is_reached(doomed: Machine) -> None:
    """A guest to which SSH is being connected is watched, too."""
    _stop(doomed)
    with pytest.raises(GuestStopped):
        doomed.ssh()


def test_stopped_under_a_script(doomed: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`boot` with a script ends when QEMU is stopped, and does not wait for ever."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb") as script:
        monkeypatch.setattr(sys, "stdin", stdin)
        script.write(b"sleep 1000\n")
        script.close()
        _stop(doomed)
        with pytest.raises(GuestStopped):
            _script(doomed)


@pytest.mark.slow(11)
def test_stopped_while_a_patch_is_held(doomed: Machine, sample_modules: Mapping[str, Path]) -> None:
    """A transition that is overdue because QEMU was stopped in between is no TransitionTimeout."""
    livepatch = Livepatch(doomed, modules=sample_modules)
    livepatch.load_target("klp_target_gate")
    Gates(doomed).enter(0)
    patch = livepatch.load("klp_test_gate")
    with _stopped_in_pulses(doomed), pytest.raises(GuestStopped, match=r"of \d+ s"):
        patch.wait_complete(doomed.scaled(2.0))


@pytest.mark.slow(11)
def test_stopped_while_a_file_is_waited_for(doomed: Machine) -> None:
    """The guest's own clock runs on while QEMU is stopped: its time-outs are checked here."""
    with _stopped_in_pulses(doomed), pytest.raises(GuestStopped):
        doomed.poll_file("/nowhere", Op.PRESENT, "", deadline=doomed.scaled(2.0))


@pytest.mark.slow(17)
def test_starved(doomed: Machine) -> None:
    """A guest that the host gives no CPU is starved: what it did not do in time says nothing."""
    pid = doomed.hypervisor.pid
    cpu = min(os.sched_getaffinity(0))
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {cpu})
        os.setpriority(os.PRIO_PROCESS, int(task.name), 19)
    with contextlib.suppress(FileNotFoundError):
        # Where sessions share the CPU, those inside of them share only what is theirs.
        Path(f"/proc/{pid}/autogroup").write_text("19")
    hog = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with spawn([sys.executable, "-c", hog]), pytest.raises(GuestStarved, match="waited for a CPU"):
        doomed.run(["sh", "-c", "while :; do :; done"], deadline=doomed.scaled(4.0))


@pytest.mark.slow(12)
def test_paused_by_its_monitor(doomed: Machine) -> None:
    """A guest that QEMU does not run answers nothing, and does not hang."""
    doomed.hypervisor.monitor.execute("stop", deadline=doomed.scaled(5))
    with pytest.raises(GuestStopped, match="its state is `paused`"):
        doomed.run(["true"], deadline=doomed.scaled(2.0))


def test_triple_fault(kernel: Kernel, klp_session: Session) -> None:
    """A triple fault is GuestReset: the kernel's own end, and no loss of QEMU."""
    with (
        klp_session.guest(
            kernel, name="triple-fault", fresh=Fresh.BOOT, kernel_args=("reboot=t",)
        ) as machine,
        pytest.raises(GuestReset, match="reset itself"),
    ):
        machine.run(["sh", "-c", "echo b >/proc/sysrq-trigger; sleep 60"])


def test_flood_of_the_serial_line(doomed: Machine) -> None:
    """A flood without a line end is in the log, and the next message is seen after it.

    The emulated port takes some 100 KB a second; a unit test has larger floods.
    """
    size = 400_000
    flood = f"head -c {size} /dev/zero | tr '\\0' x >/dev/ttyS0"
    assert doomed.run(["sh", "-c", flood], deadline=doomed.scaled(120)).ok
    doomed.check_splats()
    # The port's buffer holds some KB that come after the message, if it is open elsewhere too.
    log = doomed.folder / "console.log"
    assert wait_until(lambda: log.stat().st_size > size, doomed.scaled(30))


@pytest.mark.slow(31)
def test_messages_that_were_dropped(kernel: Kernel, klp_session: Session) -> None:
    """A log that lost messages is not clean: nobody knows what was in them.

    One CPU prints, one waits to do so; the others only fill the log, and overtake the console.
    """
    loop = "for n in {1..400}; do echo $long; done >/dev/kmsg"
    script = f"printf -v long %0900d 0; for n in 1 2 3 4; do {loop} & done; wait"
    with klp_session.guest(kernel, name="dropped", cpus=4, fresh=Fresh.BOOT) as machine:
        machine.run(["bash", "-c", script], deadline=machine.scaled(60))
        with pytest.raises(LogIncomplete, match=r"lost \d+ messages"):
            machine.check_splats()


def test_log_that_cannot_be_written(doomed: Machine) -> None:
    """A full disk under the console's log ends the wait; the guest's serial line goes on."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, doomed.hypervisor.console._log._file)
    os.close(full)
    with pytest.raises(HarnessError, match="No space left") as raised:
        doomed.check_splats()
    assert raised.value.exit_code == 3
