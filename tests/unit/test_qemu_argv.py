# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line: what a guest is, and what it is kept from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.vm.guest.qemu import (
    GuestShape,
    Recording,
    RecordMode,
    Wiring,
    build_argv,
    replay_argv,
)
from harness.vm.host.accel import Accel

SHAPE = GuestShape(
    image=Path("/k/bzImage"), initrd=Path("/r/initrd"), accel=Accel.TCG, cpus=3, memory_mib=384
)
WIRING = Wiring(serial_fd=7, monitor_fd=9, agent_fd=11, ssh_fd=13)


def value_of(argv: list[str], option: str) -> str:
    """Return the word after an option that occurs once."""
    assert argv.count(option) == 1
    return argv[argv.index(option) + 1]


def values_of(argv: list[str], option: str) -> list[str]:
    """Return the words after each occurrence of an option."""
    return [argv[n + 1] for n, word in enumerate(argv) if word == option]


def test_size_and_kernel() -> None:
    """CPUs, memory, kernel and initrd are those of the shape."""
    argv = build_argv(SHAPE, WIRING)
    assert value_of(argv, "-smp") == "cpus=3,sockets=3,cores=1,threads=1"
    assert value_of(argv, "-m") == "384"
    assert value_of(argv, "-kernel") == "/k/bzImage"
    assert value_of(argv, "-initrd") == "/r/initrd"


def test_guest_is_cut_off() -> None:
    """No default devices, a forward from loopback, a port on our socket, a sandbox."""
    argv = build_argv(SHAPE, WIRING)
    assert "-nodefaults" in argv
    assert "-no-user-config" in argv
    (netdev,) = values_of(argv, "-netdev")
    options = netdev.split(",")
    assert "restrict=on" in options
    assert [o for o in options if o.startswith("hostfwd=")] == ["hostfwd=tcp:127.0.0.1:0-:22"]
    assert not [o for o in options if o.startswith("guestfwd=")]
    assert "socket,id=agent0,fd=11" in values_of(argv, "-chardev")
    assert "virtserialport,id=agent,nr=1,chardev=agent0" in values_of(argv, "-device")
    assert "socket,id=ssh0,fd=13" in values_of(argv, "-chardev")
    assert "virtserialport,id=ssh,nr=2,chardev=ssh0" in values_of(argv, "-device")
    sandbox = value_of(argv, "-sandbox").split(",")
    assert sandbox[0] == "on"
    assert {"spawn=deny", "elevateprivileges=deny", "resourcecontrol=deny"} <= set(sandbox)


def test_sockets_are_inherited() -> None:
    """Serial line, monitor and agent have descriptors that were made before QEMU: no path."""
    argv = build_argv(SHAPE, WIRING)
    chardevs = values_of(argv, "-chardev")
    assert {part for chardev in chardevs for part in chardev.split(",")} >= {
        "fd=7",
        "fd=9",
        "fd=11",
        "fd=13",
    }
    assert not any("path=" in word for word in argv)


@pytest.mark.parametrize(
    ("wiring", "memory", "incoming"),
    [
        (WIRING, "memory-backend-ram,id=ram,size=384M", False),
        (
            Wiring(serial_fd=1, monitor_fd=2, ram_path="/proc/5/fd/6", shared_ram=True),
            "memory-backend-file,id=ram,size=384M,mem-path=/proc/5/fd/6,share=on",
            False,
        ),
        (
            Wiring(serial_fd=1, monitor_fd=2, ram_path="/proc/5/fd/6", incoming=True),
            "memory-backend-file,id=ram,size=384M,mem-path=/proc/5/fd/6,share=off",
            True,
        ),
    ],
    ids=["cold", "template", "clone"],
)
def test_ram_of_each_kind_of_guest(wiring: Wiring, memory: str, incoming: bool) -> None:
    """Only the template writes to the shared RAM; a clone maps it privately and waits for state."""
    argv = build_argv(SHAPE, wiring)
    assert memory in values_of(argv, "-object")
    assert ("-incoming" in argv) is incoming
    assert ("-kernel" in argv) is not incoming


def test_guest_that_panics_ends_qemu() -> None:
    """A panic resets the guest at once, a reset ends QEMU, and an NMI makes it panic."""
    argv = build_argv(SHAPE, WIRING)
    assert "-no-reboot" in argv
    assert {"pvpanic-pci", "pvpanic"} <= set(values_of(argv, "-device"))
    kernel_args = value_of(argv, "-append").split()
    assert {"panic=-1", "unknown_nmi_panic", "no_timer_check", "console=ttyS0"} <= set(kernel_args)


def test_own_kernel_arguments_come_last() -> None:
    """The user's kernel arguments come after ours: the kernel lets the last one win."""
    shape = GuestShape(
        image=Path("/k"), initrd=Path("/r"), accel=Accel.KVM, kernel_args=("maxcpus=1", "panic=5")
    )
    argv = build_argv(shape, WIRING)
    assert value_of(argv, "-append").split()[-2:] == ["maxcpus=1", "panic=5"]
    assert value_of(argv, "-accel") == "kvm"


RECORDED = replace(
    SHAPE,
    cpus=1,
    recording=Recording(
        mode=RecordMode.RECORD, inputs=Path("/r/a,b"), console=Path("/r/console.log")
    ),
)
REPLAYED = replace(
    RECORDED,
    recording=Recording(
        mode=RecordMode.REPLAY, inputs=Path("/r/a,b"), console=Path("/r/console.log")
    ),
)


def test_a_recorded_guest_has_nothing_that_is_not_replayed() -> None:
    """No network, and no source of entropy in the host."""
    argv = build_argv(RECORDED, replace(WIRING, agent_pipe=Path("/r/agent")))
    assert not {"-netdev"} & set(argv)
    assert values_of(argv, "-device") == ["pvpanic-pci", "pvpanic"]
    assert value_of(argv, "-icount") == "shift=1,rr=record,rrfile=/r/a,,b"
    assert values_of(argv, "-serial") == ["chardev:serial0", "chardev:agent0"]


def test_a_replay_has_the_machine_that_was_recorded() -> None:
    """They differ in the ends of the serial ports and the monitor, which the guest cannot see."""
    ends = {"-chardev", "-mon"}

    def machine(argv: list[str]) -> list[str]:
        pairs = zip(argv, [*argv[1:], ""], strict=True)
        hidden = {n + k for n, (word, _) in enumerate(pairs) if word in ends for k in (0, 1)}
        return [word for n, word in enumerate(argv) if n not in hidden]

    record = machine(build_argv(RECORDED, replace(WIRING, agent_pipe=Path("/r/agent"))))
    replay = machine(replay_argv(REPLAYED))
    assert [word.replace("rr=record", "rr=replay") for word in record] == replay


def test_a_guest_waits_for_gdb() -> None:
    """It stands still, and gdb's socket is one that only this user reaches."""
    assert REPLAYED.recording is not None
    waiting = replace(REPLAYED, recording=replace(REPLAYED.recording, gdb=Path("/r/gdb")))
    argv = replay_argv(waiting)
    assert "-S" in argv
    assert value_of(argv, "-gdb") == "unix:/r/gdb,server=on,wait=off"
    assert "-S" not in replay_argv(REPLAYED)
