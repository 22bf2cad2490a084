# SPDX-License-Identifier: GPL-2.0-only
"""Copy-on-write snapshots: boot once, then start each guest from that state within a second.

A template's RAM lies in a memfd that its owner holds open. A clone maps it privately and reads the
small rest, the device state, from a file; RAM is left out of the migration by QEMU's capability
x-ignore-shared (docs/devel/migration of QEMU). The memfd ends with its owner: a killed run leaves
nothing in memory, and nothing to remove.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline, wait_until
from harness.errors import LostConnection, QemuFailed
from harness.log import LOGGER
from harness.vm.guest.hypervisor import Hypervisor
from harness.vm.guest.initramfs import SSH_IDLE_LINE
from harness.vm.guest.machine import Machine
from harness.vm.guest.root_disk import open_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from harness.vm.guest.keys import RunKeys
    from harness.vm.guest.qemu import GuestShape
    from harness.vm.guest.root_disk import Layers
    from harness.vm.guest.ssh_exchange import KeptExchange, SshExchange

STATE = "device-state"
"""The name of the file with a template's device state."""

_BOOT_S = 30.0
INIT_S = 180.0
"""How long the init of a root file system may take, beside the kernel's boot."""
_SAVE_S = 20.0
_DISCONNECT_S = 15.0
_IDLE_S = 2.0
# On a busy host the kernel may count too many or too few ticks while it verifies the APIC's timer
# (arch/x86/kernel/apic/apic.c, calibrate_APIC_clock()). Without that timer it has a tick of 250 Hz
# also when it is idle, and timers of 4 ms, and each clone 15 times the CPU time while it waits.
_TICKS_LINE = "APIC timer disabled due to verification failure"
_BOOTS = 8
_IDLE_POLL_S = 0.05
_IDLE_CPU_S = 0.0025
# "events" makes QEMU report when the state of a migration changes, so that nothing is polled.
_CAPABILITIES = {
    "capabilities": [
        {"capability": "x-ignore-shared", "state": True},
        {"capability": "events", "state": True},
    ]
}


@dataclass(frozen=True, kw_only=True)
class Template:
    """A saved guest: where its RAM and device state are, valid while the owner lives.

    ``disk_path`` is its own layer of the disk, if it has one. ``ssh`` is the exchange that its SSH
    server has had, if its shape says so. In a guest of which ``ssh_was_used`` there is no line for
    SSH any more.
    """

    shape: GuestShape
    ram_path: str
    state_path: Path
    disk_path: str | None = None
    ssh: SshExchange | None = None
    ssh_was_used: bool = False


@contextlib.contextmanager
def cold_guest(
    shape: GuestShape,
    keys: RunKeys,
    folder: Path,
    *,
    time_scale: float,
    deadline: Deadline,
    boot_s: float | None = None,
    starter: ThreadPoolExecutor | None = None,
) -> Iterator[Machine]:
    """Boot a guest from power-on, connected; it is killed when the context ends."""
    with contextlib.ExitStack() as stack:
        hypervisor = Hypervisor(shape, folder, stack, starter=starter)
        layers = _layers(shape, folder, stack, deadline=deadline)
        hypervisor.start(layers=layers, deadline=deadline)
        machine = stack.enter_context(Machine(hypervisor, keys, time_scale=time_scale))
        hypervisor.wait_for_boot(Deadline.after(boot_s or _boot_s(shape) * time_scale))
        machine.connect()
        yield machine


@contextlib.contextmanager
def template(
    shape: GuestShape, keys: RunKeys, folder: Path, *, time_scale: float, deadline: Deadline
) -> Iterator[Template]:
    """Boot a guest, use it once so that its entropy and caches are warm, and save it."""
    with contextlib.ExitStack() as held:
        ram = os.memfd_create("klp-template")
        held.callback(os.close, ram)
        ram_path = f"/proc/{os.getpid()}/fd/{ram}"
        state_path = folder / STATE
        with contextlib.ExitStack() as stack:
            for boots_left in reversed(range(_BOOTS)):
                os.truncate(ram, 0)
                os.truncate(ram, shape.memory_mib << 20)
                layers = _layers(shape, folder, held, deadline=deadline)
                hypervisor = Hypervisor(shape, folder, stack)
                hypervisor.start(
                    ram_path=ram_path, shared_ram=True, layers=layers, deadline=deadline
                )
                machine = stack.enter_context(Machine(hypervisor, keys, time_scale=time_scale))
                hypervisor.wait_for_boot(machine.scaled(_boot_s(shape)))
                if _TICKS_LINE not in hypervisor.console.text():
                    break
                if not boots_left:
                    LOGGER.warning(
                        "this host is busy: the kernel has disabled the APIC timer in %s boots, so "
                        "guests have timers of 4 ms",
                        _BOOTS,
                    )
                    break
                LOGGER.info("the template's APIC timer was disabled: it is booted again")
                stack.close()
            machine.connect()
            machine.tasks()
            machine.klog()
            machine.run(["true"])
            kept = _connect_ssh(machine) if shape.ssh else None
            _await_idle(hypervisor, machine.scaled(_IDLE_S))
            _save(hypervisor, state_path, deadline=deadline)
            exchange = kept.taken() if kept is not None else None
        own = layers.descriptors[-1] if layers is not None else None
        yield Template(
            shape=shape,
            ram_path=ram_path,
            state_path=state_path,
            disk_path=f"/proc/{os.getpid()}/fd/{own}" if own is not None else None,
            ssh=exchange,
        )


def _connect_ssh(machine: Machine) -> KeptExchange:
    lines = machine.hypervisor.lines
    assert lines is not None
    kept = lines.keep_exchange()
    machine.ssh()
    return kept


def _boot_s(shape: GuestShape) -> float:
    """Return how long a boot may take on quick hardware."""
    return _BOOT_S + INIT_S if shape.root is not None and shape.root.init else _BOOT_S


def _layers(
    shape: GuestShape,
    folder: Path,
    opened: contextlib.ExitStack,
    *,
    below: str | None = None,
    deadline: Deadline,
) -> Layers | None:
    if shape.root is None:
        return None
    return open_layers(shape.root, folder, opened, below=below, deadline=deadline)


@contextlib.contextmanager
def changed_template(
    saved: Template,
    keys: RunKeys,
    folder: Path,
    change: Callable[[Machine], None],
    *,
    time_scale: float,
    deadline: Deadline,
) -> Iterator[Template]:
    """Restore a template with RAM of its own, have ``change`` do something there, and save it.

    That takes a second, where a boot takes several. SSH is not connected in that template. Raises
    what ``change`` raises.
    """
    assert saved.ssh is None
    ram = os.memfd_create("klp-template")
    try:
        _copy_ram(saved.ram_path, ram)
        ram_path = f"/proc/{os.getpid()}/fd/{ram}"
        state_path = folder / STATE
        with contextlib.ExitStack() as stack:
            hypervisor = Hypervisor(saved.shape, folder, stack)
            state = stack.enter_context(saved.state_path.open("rb"))
            hypervisor.start(
                ram_path=ram_path,
                shared_ram=True,
                incoming=True,
                pass_fds=(state.fileno(),),
                deadline=deadline,
            )
            _load(hypervisor, state.fileno(), deadline=deadline)
            hypervisor.monitor.execute("cont", deadline=deadline)
            machine = stack.enter_context(Machine(hypervisor, keys, time_scale=time_scale))
            machine.connect()
            change(machine)
            ssh_was_used = _end_ssh(machine)
            _await_idle(hypervisor, machine.scaled(_IDLE_S))
            _save(hypervisor, state_path, deadline=deadline)
        yield Template(
            shape=saved.shape,
            ram_path=ram_path,
            state_path=state_path,
            ssh_was_used=ssh_was_used,
        )
    finally:
        os.close(ram)


class Clone:
    """A guest from a template, stopped where the template was saved, and ready to continue."""

    def __init__(
        self,
        saved: Template,
        folder: Path,
        *,
        deadline: Deadline,
        starter: ThreadPoolExecutor | None = None,
    ) -> None:
        """Start QEMU and load the state; raises QemuFailed."""
        with contextlib.ExitStack() as stack:
            self.hypervisor = Hypervisor(saved.shape, folder, stack, starter=starter)
            state = stack.enter_context(saved.state_path.open("rb"))
            layers = _layers(saved.shape, folder, stack, below=saved.disk_path, deadline=deadline)
            self.hypervisor.start(
                ram_path=saved.ram_path,
                incoming=True,
                pass_fds=(state.fileno(),),
                layers=layers,
                deadline=deadline,
            )
            _load(self.hypervisor, state.fileno(), deadline=deadline)
            lines = self.hypervisor.lines
            assert lines is not None
            if saved.ssh_was_used:
                lines.take_ssh()
            elif saved.ssh is not None:
                lines.repeat_exchange(saved.ssh)
            self._stack = stack.pop_all()
        self.hypervisor.stack = self._stack

    @property
    def folder(self) -> Path:
        """Where its logs lie."""
        return self.hypervisor.folder

    def check(self) -> None:
        """Raise the typed reason when it cannot be used any more."""
        self.hypervisor.check()

    def close(self) -> None:
        """Kill it."""
        self._stack.close()


@contextlib.contextmanager
def restored_guest(
    clone: Clone, keys: RunKeys, *, time_scale: float, deadline: Deadline
) -> Iterator[Machine]:
    """Continue a clone, and connect; it is killed when the context ends."""
    with contextlib.closing(clone):
        clone.hypervisor.monitor.execute("cont", deadline=deadline)
        with Machine(clone.hypervisor, keys, time_scale=time_scale) as machine:
            machine.connect()
            yield machine


def _copy_ram(path: str, target: int) -> None:
    """Copy RAM into an empty memfd; what was never written takes no memory there either."""
    with Path(path).open("rb", buffering=0) as source:
        size = os.fstat(source.fileno()).st_size
        os.truncate(target, size)
        start = 0
        while start < size:
            try:
                start = os.lseek(source.fileno(), start, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # there are no more data
                    return
                raise
            end = os.lseek(source.fileno(), start, os.SEEK_HOLE)
            os.lseek(target, start, os.SEEK_SET)
            while start < end:
                start += os.sendfile(target, source.fileno(), start, end - start)


def _end_ssh(machine: Machine) -> bool:
    """Disconnect SSH, and wait until the guest has a server ready for its next connection.

    Returns whether it was used. The agent stays connected, so that nothing it says before the guest
    stops is said to a clone.
    """
    console = machine.hypervisor.console
    before = console.size
    if not machine.end_ssh():
        return False
    if not machine.hypervisor.events.wait(
        lambda: SSH_IDLE_LINE in console.text(before),
        machine.scaled(_DISCONNECT_S),
        between=machine.hypervisor.check,
    ):
        raise machine.hypervisor.explain(
            LostConnection("the template's SSH connection does not end in the guest")
        )
    return True


def _await_idle(hypervisor: Hypervisor, deadline: Deadline) -> None:
    """Wait until the guest is idle: each clone would have to finish the work that is left.

    A guest that is never idle is saved as it is, which costs time and is not wrong.
    """
    used_s: list[float] = []

    def idle() -> bool:
        used_s.append(hypervisor.cpu_s())
        return len(used_s) > 1 and used_s[-1] - used_s[-2] < _IDLE_CPU_S

    if not wait_until(idle, deadline, interval_s=_IDLE_POLL_S):
        LOGGER.info("the template does not become idle; its clones start a little slower")


def _save(hypervisor: Hypervisor, path: Path, *, deadline: Deadline) -> None:
    deadline = deadline.within(_SAVE_S)
    monitor = hypervisor.monitor
    monitor.execute("stop", deadline=deadline)
    monitor.execute("migrate-set-capabilities", _CAPABILITIES, deadline=deadline)
    # Another process may still have that of an earlier template open.
    path.unlink(missing_ok=True)
    with path.open("xb") as state:
        monitor.pass_fd(state.fileno(), "state", deadline=deadline)
        monitor.execute("migrate", {"uri": "fd:state"}, deadline=deadline)
        _await_migration(hypervisor, deadline=deadline)


def _load(hypervisor: Hypervisor, fd: int, *, deadline: Deadline) -> None:
    deadline = deadline.within(_SAVE_S)
    monitor = hypervisor.monitor
    monitor.execute("migrate-set-capabilities", _CAPABILITIES, deadline=deadline)
    monitor.execute("migrate-incoming", {"uri": f"fd:{fd}"}, deadline=deadline)
    _await_migration(hypervisor, deadline=deadline)


def _await_migration(hypervisor: Hypervisor, *, deadline: Deadline) -> None:
    answer: dict[str, str] = {}

    def settled() -> bool:
        answer.update(hypervisor.monitor.execute("query-migrate", deadline=deadline))
        return answer.get("status") in {"completed", "failed"}

    if not hypervisor.events.wait(settled, deadline, between=hypervisor.check):
        raise hypervisor.explain(QemuFailed("QEMU did not save or restore the guest in time"))
    if answer["status"] == "failed":
        reason = answer.get("error-desc", "no reason given")
        raise hypervisor.explain(QemuFailed(f"QEMU cannot save or restore the guest: {reason}"))
