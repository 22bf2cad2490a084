# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line, as a pure function of the guest's shape."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.vm.guest.root_disk import disk_arguments
from harness.vm.host.accel import ACCEL_ARGUMENTS, QEMU

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.guest.plugin import Plugin
    from harness.vm.guest.root_disk import Layers, RootDisk
    from harness.vm.host.accel import Accel

SERIAL_ID = "serial0"
NETDEV_ID = "net0"
AGENT_PORT_ID, SSH_PORT_ID = "agent", "ssh"
_SSH_PORT = 22
# The ISA device is for kernels before 5.13, which have no driver for the other.
_REPORTS_PANIC = ("-device", "pvpanic-pci", "-device", "pvpanic", "-action", "panic=none")

# spawn=deny costs nothing: device state travels over file descriptors, never through a command.
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

# no_timer_check: on a loaded host the timer check of a slow guest fails and panics ("IO-APIC +
# timer doesn't work"). panic=-1: a panicked guest resets at once, which ends QEMU (-no-reboot).
# unknown_nmi_panic: an NMI from QEMU makes a guest with stuck CPUs print their stacks.
# ignore_loglevel: the console shows pr_debug of dynamic debug as well.
_KERNEL_ARGS = (
    "console=ttyS0",
    "panic=-1",
    "no_timer_check",
    "unknown_nmi_panic",
    "ignore_loglevel",
    "printk.devkmsg=on",
    "random.trust_cpu=on",
)


# The kernel verifies the APIC timer in loops of PAUSE, each of which is an event in the recording:
# a boot then takes 113 MB instead of 0.3, and no replay of that has ever ended.
_RECORDED_KERNEL_ARGS = ("noapictimer",)


class RecordMode(StrEnum):
    """What QEMU does with the file of a recording (docs/system/replay.rst of QEMU)."""

    RECORD = "record"
    REPLAY = "replay"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A run whose every input from outside is written to the file ``inputs``, or read from it.

    ``console`` gets all bytes of the first serial port. With ``gdb``, the path of a unix socket
    that QEMU makes, the guest waits for gdb to continue it.
    """

    mode: RecordMode
    inputs: Path
    console: Path
    gdb: Path | None = None


@dataclass(frozen=True, kw_only=True)
class GuestShape:
    """What a guest is: its size and what it boots. Two guests of one shape may share a template.

    One that is recorded or replayed runs under TCG with one CPU, boots from power-on, and has no
    network: its agent is behind its second serial port. ``ssh``: SSH is connected in the template.
    """

    image: Path
    initrd: Path
    accel: Accel
    cpus: int = 2
    memory_mib: int = 256
    kernel_args: tuple[str, ...] = ()
    recording: Recording | None = None
    plugin: Plugin | None = None
    root: RootDisk | None = None
    ssh: bool = False


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What connects one QEMU process to the harness: descriptors that it inherits, a RAM file.

    Without ``ram_path`` the RAM is the guest's own. With one, the template writes to that file
    (``shared_ram``), and clones map it copy-on-write. ``incoming``: QEMU waits for device state.
    ``kernel_fd`` and ``initrd_fd`` are for a QEMU that may not open the files of the shape.
    ``agent_fd`` leads to the agent, ``ssh_fd`` to SSH's server. A guest that is recorded has
    ``agent_pipe`` instead, and a pipe for ``serial_fd``.
    ``plugin`` has the paths of a plugin of QEMU and of the file that it shares with the harness.
    ``layers`` are those of the disk of a guest that has one.
    """

    serial_fd: int
    monitor_fd: int
    ram_path: str | None = None
    shared_ram: bool = False
    incoming: bool = False
    agent_fd: int | None = None
    ssh_fd: int | None = None
    agent_pipe: Path | None = None
    kernel_fd: int | None = None
    initrd_fd: int | None = None
    plugin: tuple[str, str] | None = None
    layers: Layers | None = None


def build_argv(shape: GuestShape, wiring: Wiring) -> list[str]:
    """Return the full command line of one guest.

    The guest's network reaches nothing (``restrict=on``); the host reaches the guest's SSH port
    through a loopback port that QEMU itself binds (port 0: the host's kernel picks a free one). The
    agent, and SSH for one client, are at virtio ports, which QEMU has on sockets that it shares
    with the host.
    """
    return [
        *_machine(shape, _memory(shape.memory_mib, wiring)),
        *_ports(shape, wiring),
        *_network_and_entropy(shape),
        *_REPORTS_PANIC,
        *_disk(shape, wiring),
        *_serial_ports(shape, wiring),
        *("-chardev", f"socket,id=monitor0,fd={wiring.monitor_fd}"),
        *("-mon", "chardev=monitor0,mode=control"),
        *_plugin(wiring.plugin),
        *_boot(shape, wiring),
    ]


def replay_argv(shape: GuestShape, plugin: tuple[str, str] | None = None) -> list[str]:
    """Return the command line that replays a recorded run; QEMU ends where the run did.

    ``plugin`` has the paths of a plugin of QEMU and of the file that it shares with the harness.
    """
    recording = shape.recording
    assert recording is not None
    argv = [
        *_machine(shape, f"memory-backend-ram,id=ram,size={shape.memory_mib}M"),
        *_recorded(recording),
        *_REPORTS_PANIC,
        *("-chardev", f"file,id={SERIAL_ID},path={_escaped(recording.console)}"),
        *("-serial", f"chardev:{SERIAL_ID}"),
        *("-chardev", "null,id=agent0", "-serial", "chardev:agent0"),
        *_plugin(plugin),
        *_kernel(shape),
    ]
    if recording.gdb is not None:
        argv += ["-S", "-gdb", f"unix:{_escaped(recording.gdb)},server=on,wait=off"]
    return argv


def _machine(shape: GuestShape, memory: str) -> list[str]:
    return [
        QEMU,
        *("-no-user-config", "-nodefaults", "-no-reboot", "-display", "none"),
        *("-sandbox", _SANDBOX),
        *("-machine", "pc,memory-backend=ram,vmport=off,usb=off"),
        *ACCEL_ARGUMENTS[shape.accel],
        *("-smp", f"cpus={shape.cpus},sockets={shape.cpus},cores=1,threads=1"),
        *("-m", str(shape.memory_mib), "-object", memory),
    ]


def _network_and_entropy(shape: GuestShape) -> list[str]:
    if shape.recording is not None:
        return _recorded(shape.recording)
    ssh = f"tcp:127.0.0.1:0-:{_SSH_PORT}"
    return [
        *("-netdev", f"user,id={NETDEV_ID},restrict=on,ipv6=off,hostfwd={ssh}"),
        *("-device", f"virtio-net-pci,netdev={NETDEV_ID},romfile=,guest_announce=off"),
        *("-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,rng=rng0"),
    ]


def _ports(shape: GuestShape, wiring: Wiring) -> list[str]:
    # Port 0 would be a console. These are /dev/vport0p1 and /dev/vport0p2.
    if shape.recording is not None:
        return []
    return [
        *("-chardev", f"socket,id=agent0,fd={wiring.agent_fd}"),
        *("-chardev", f"socket,id=ssh0,fd={wiring.ssh_fd}"),
        *("-device", "virtio-serial-pci,max_ports=3"),
        *("-device", f"virtserialport,id={AGENT_PORT_ID},nr=1,chardev=agent0"),
        *("-device", f"virtserialport,id={SSH_PORT_ID},nr=2,chardev=ssh0"),
    ]


def _recorded(recording: Recording) -> list[str]:
    # An instruction lasts 2^1 ns of the guest's time.
    return ["-icount", f"shift=1,rr={recording.mode},rrfile={_escaped(recording.inputs)}"]


def _serial_ports(shape: GuestShape, wiring: Wiring) -> list[str]:
    if shape.recording is None:
        console = f"socket,id={SERIAL_ID},fd={wiring.serial_fd}"
        return ["-chardev", console, "-serial", f"chardev:{SERIAL_ID}"]
    assert wiring.agent_pipe is not None
    path, log = f"/proc/self/fd/{wiring.serial_fd}", _escaped(shape.recording.console)
    return [
        *("-chardev", f"file,id={SERIAL_ID},path={path},logfile={log}"),
        *("-serial", f"chardev:{SERIAL_ID}"),
        *("-chardev", f"pipe,id=agent0,path={_escaped(wiring.agent_pipe)}"),
        *("-serial", "chardev:agent0"),
    ]


def _disk(shape: GuestShape, wiring: Wiring) -> list[str]:
    if shape.root is None or wiring.layers is None:
        return []
    return disk_arguments(shape.root, wiring.layers)


def _plugin(plugin: tuple[str, str] | None) -> list[str]:
    if plugin is None:
        return []
    library, shared = plugin
    return ["-plugin", f"{_escaped(library)},shared={_escaped(shared)}"]


def _boot(shape: GuestShape, wiring: Wiring) -> list[str]:
    if wiring.incoming:
        # The kernel is in the RAM already; reading it again would cost time and memory.
        return ["-incoming", "defer"]
    return _kernel(shape, wiring.kernel_fd, wiring.initrd_fd)


def _kernel(
    shape: GuestShape, kernel_fd: int | None = None, initrd_fd: int | None = None
) -> list[str]:
    recorded = _RECORDED_KERNEL_ARGS if shape.recording is not None else ()
    arguments = " ".join([*_KERNEL_ARGS, *recorded, *shape.kernel_args])
    kernel = str(shape.image) if kernel_fd is None else own_fd(kernel_fd)
    initrd = str(shape.initrd) if initrd_fd is None else own_fd(initrd_fd)
    return ["-kernel", kernel, "-initrd", initrd, "-append", arguments]


def own_fd(descriptor: int) -> str:
    """Return the path by which a process opens a descriptor that it has inherited once more."""
    return f"/proc/self/fd/{descriptor}"


def _memory(memory_mib: int, wiring: Wiring) -> str:
    if wiring.ram_path is None:
        return f"memory-backend-ram,id=ram,size={memory_mib}M"
    share = "on" if wiring.shared_ram else "off"
    path = _escaped(wiring.ram_path)
    return f"memory-backend-file,id=ram,size={memory_mib}M,mem-path={path},share={share}"


def _escaped(path: Path | str) -> str:
    """Return a path as it is written in an option of QEMU."""
    return str(path).replace(",", ",,")
