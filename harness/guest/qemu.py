# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line, as a pure function of what a guest is to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.host.accel import ACCEL_ARGUMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.host.accel import Accel

QEMU = "qemu-system-x86_64"
SERIAL_ID = "serial0"
NETDEV_ID = "net0"
_SSH_PORT = 22

# spawn=deny costs nothing: device state travels over file descriptors, never through a command.
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

# no_timer_check: on a loaded host the timer check of a slow guest fails and panics ("IO-APIC +
# timer doesn't work"). panic=-1: a panicked guest resets at once, which ends QEMU (-no-reboot).
# unknown_nmi_panic: an NMI from QEMU makes a guest with stuck CPUs print where it stands.
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


@dataclass(frozen=True, kw_only=True)
class GuestShape:
    """What a guest is: its size and what it boots. Two guests of one shape may share a template."""

    image: Path
    initrd: Path
    accel: Accel
    cpus: int = 2
    memory_mib: int = 256
    kernel_args: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What ties one QEMU process to its harness: descriptors that it inherits, and its RAM file.

    Without ``ram_path`` the RAM is the guest's own. With one, the template writes to that file
    (``shared_ram``), and clones map it copy-on-write. ``incoming``: QEMU waits for device state.
    """

    serial_fd: int
    monitor_fd: int
    ram_path: str | None = None
    shared_ram: bool = False
    incoming: bool = False


def build_argv(shape: GuestShape, wiring: Wiring, *, qemu: str = QEMU) -> list[str]:
    """Return the full command line of one guest.

    The guest's network reaches nothing (``restrict=on``); the host reaches the guest's SSH port
    through a loopback port that QEMU itself binds (port 0: the host's kernel picks a free one).
    """
    return [
        qemu,
        "-no-user-config",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-sandbox",
        _SANDBOX,
        "-machine",
        "pc,memory-backend=ram,vmport=off,usb=off",
        *ACCEL_ARGUMENTS[shape.accel],
        "-smp",
        str(shape.cpus),
        "-m",
        str(shape.memory_mib),
        "-object",
        _memory(shape.memory_mib, wiring),
        "-netdev",
        f"user,id={NETDEV_ID},restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:{_SSH_PORT}",
        "-device",
        f"virtio-net-pci,netdev={NETDEV_ID},romfile=,guest_announce=off",
        "-object",
        "rng-builtin,id=rng0",
        "-device",
        "virtio-rng-pci,rng=rng0",
        "-device",
        "pvpanic-pci",
        # Kernels before 5.13 know the ISA device alone.
        "-device",
        "pvpanic",
        "-action",
        "panic=none",
        "-chardev",
        f"socket,id={SERIAL_ID},fd={wiring.serial_fd}",
        "-serial",
        f"chardev:{SERIAL_ID}",
        "-chardev",
        f"socket,id=monitor0,fd={wiring.monitor_fd}",
        "-mon",
        "chardev=monitor0,mode=control",
        *_what_to_start(shape, wiring),
    ]


def _what_to_start(shape: GuestShape, wiring: Wiring) -> list[str]:
    if wiring.incoming:
        # The kernel is in the RAM already; reading it again would cost time and memory.
        return ["-incoming", "defer"]
    arguments = " ".join([*_KERNEL_ARGS, *shape.kernel_args])
    return ["-kernel", str(shape.image), "-initrd", str(shape.initrd), "-append", arguments]


def _memory(memory_mib: int, wiring: Wiring) -> str:
    if wiring.ram_path is None:
        return f"memory-backend-ram,id=ram,size={memory_mib}M"
    share = "on" if wiring.shared_ram else "off"
    path = wiring.ram_path.replace(",", ",,")
    return f"memory-backend-file,id=ram,size={memory_mib}M,mem-path={path},share={share}"
