# SPDX-License-Identifier: GPL-2.0-only
"""A client of QEMU's gdb server: breakpoints, one CPU apart from the others, registers, memory.

gdb itself would take 100 MiB for each guest. All CPUs stand still whenever nobody waits in this
client.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import QemuFailed, UsageError
from harness.vm.guest.gdb_packets import GdbPackets

if TYPE_CHECKING:
    import socket

_ANSWER_S = 30.0
_LATE_S = 0.05
_MOST_BYTES = 1024
# QEMU's order of the registers of x86_64 (gdb-xml/i386-64bit.xml there): 16 general ones and rip,
# eflags and six segment registers of four bytes, then those that system code uses.
_GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *(f"r{number}" for number in range(8, 16)),
    "rip",
)
_PC, _SP, _FLAGS = 16, 7, 17
_FLAGS_AT = 17 * 8
_BASES_AT = _FLAGS_AT + 7 * 4
_BASES = ("fs_base", "gs_base", "k_gs_base")


@dataclass(frozen=True)
class Stop:
    """Why the guest stands still: CPU ``cpu``, from 0, is at a breakpoint; None: it was asked."""

    cpu: int | None


class GdbClient:
    """A connection to the gdb server of a guest, which it stops."""

    def __init__(self, sock: socket.socket) -> None:
        """Raises UsageError when QEMU's gdb server lacks something that is needed."""
        self.breakpoints: Counter[int] = Counter()
        """How often there is a breakpoint at each address."""
        self.connect(sock)
        self._ask("?")

    def connect(self, sock: socket.socket) -> None:
        """Go on with another connection to the same guest; raises what creating one does.

        Breakpoints stay: QEMU removes those of one CPU when it gets a `?`, and of no other one.
        """
        self._packets = GdbPackets(sock)
        self._cpu: int | None = None
        self._physical = False
        supported = self._ask("qSupported:swbreak+;hwbreak+;vContSupported+")
        # Without this QEMU takes no `P` (write one register): it thinks that gdb is too old for it.
        described = self._ask("qXfer:features:read:target.xml:0,ffb")
        if "qXfer:features:read+" not in supported or "x86" not in described + supported:
            _lacks("does not describe its registers")
        if "c" not in self._ask("vCont?"):
            _lacks("cannot continue one CPU alone")
        if self._ask("Qqemu.PhyMemMode:0") != "OK":
            _lacks("does not read memory by its physical address")

    # How the guest runs

    def go(self) -> None:
        """Let all CPUs go on, until `wait` or `halt` returns."""
        self._packets.send("vCont;c")

    def wait(self, timeout_s: float) -> Stop | None:
        """Wait for a breakpoint; None when the time is up, and the guest still runs."""
        answer = self._packets.receive(timeout_s)
        return None if answer is None else self._stopped(answer)

    def halt(self) -> Stop:
        """Stop all CPUs; returns a breakpoint that one of them has just met."""
        self._packets.interrupt()
        answer = self._packets.receive(_ANSWER_S)
        if answer is None:
            raise QemuFailed("QEMU's gdb server does not stop the guest")
        stop = self._stopped(answer)
        if not answer.startswith("T05"):
            return Stop(None)
        # It had stopped by itself, and may answer the request once more.
        self._packets.receive(_LATE_S)
        return stop

    def step(self, cpu: int) -> None:
        """Execute one instruction on one CPU, whether there is a breakpoint or not."""
        self._packets.send(f"vCont;s:{cpu + 1:x}")
        if self.wait(_ANSWER_S) is None:
            raise QemuFailed("QEMU's gdb server does not end a step")

    def set_breakpoint(self, address: int) -> None:
        """Have a CPU stop before it executes that address."""
        self._expect_ok(f"Z0,{address:x},1")
        self.breakpoints[address] += 1

    def clear_breakpoint(self, address: int) -> None:
        """Remove a breakpoint."""
        self._expect_ok(f"z0,{address:x},1")
        self.breakpoints[address] -= 1

    # What a CPU has

    def pc(self, cpu: int) -> int:
        """Return the address of the next instruction."""
        return self._register(cpu, _PC)

    def sp(self, cpu: int) -> int:
        """Return the stack pointer."""
        return self._register(cpu, _SP)

    def set_pc(self, cpu: int, address: int) -> None:
        """Have a CPU go on elsewhere."""
        self._select(cpu)
        self._expect_ok(f"P{_PC:x}={address.to_bytes(8, 'little').hex()}")

    def set_flags(self, cpu: int, flags: int) -> None:
        """Set eflags, of which only the flags that are no results of arithmetic are meant."""
        self._select(cpu)
        self._expect_ok(f"P{_FLAGS:x}={flags.to_bytes(4, 'little').hex()}")

    def registers(self, cpu: int) -> dict[str, int]:
        """Return the general registers, rip, eflags, fs_base, gs_base and k_gs_base."""
        self._select(cpu)
        raw = _bytes(self._ask("g"))
        values = dict(zip(_GENERAL, struct.unpack_from("<17Q", raw), strict=True))
        values["eflags"] = struct.unpack_from("<I", raw, _FLAGS_AT)[0]
        values |= zip(_BASES, struct.unpack_from("<3Q", raw, _BASES_AT), strict=True)
        return values

    def read(self, address: int, size: int, cpu: int) -> bytes:
        """Return memory as that CPU sees it."""
        self._select(cpu)
        self._set_physical(on=False)
        return self._read(address, size)

    def write(self, address: int, data: bytes, cpu: int) -> None:
        """Change memory as that CPU sees it, its kernel's code too."""
        self._select(cpu)
        self._set_physical(on=False)
        self._expect_ok(f"M{address:x},{len(data):x}:{data.hex()}")

    def read_physical(self, address: int, size: int) -> bytes:
        """Return memory at a physical address."""
        self._set_physical(on=True)
        return self._read(address, size)

    def write_physical(self, address: int, data: bytes) -> None:
        """Change memory at a physical address."""
        self._set_physical(on=True)
        for at in range(0, len(data), _MOST_BYTES):
            part = data[at : at + _MOST_BYTES]
            self._expect_ok(f"M{address + at:x},{len(part):x}:{part.hex()}")

    def detach(self) -> None:
        """Remove all breakpoints, and let the guest go on without this client."""
        self._ask("D")

    # The protocol

    def _register(self, cpu: int, number: int) -> int:
        self._select(cpu)
        return int.from_bytes(_bytes(self._ask(f"p{number:x}")), "little")

    def _read(self, address: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            count = min(_MOST_BYTES, size - len(data))
            data += _bytes(self._ask(f"m{address + len(data):x},{count:x}"))
        return data

    def _select(self, cpu: int) -> None:
        if self._cpu != cpu:
            self._expect_ok(f"Hg{cpu + 1:x}")
            self._cpu = cpu

    def _set_physical(self, *, on: bool) -> None:
        if self._physical != on:
            self._expect_ok(f"Qqemu.PhyMemMode:{int(on)}")
            self._physical = on

    def _stopped(self, answer: str) -> Stop:
        self._cpu = None  # the server has chosen one
        if answer[:1] in {"W", "X"}:
            raise EOFError("the guest has ended")
        _, found, rest = answer.partition("thread:")
        if not found or not answer.startswith("T05"):
            return Stop(None)
        return Stop(int(rest.partition(";")[0].rpartition(".")[2], 16) - 1)

    def _expect_ok(self, request: str) -> None:
        answer = self._ask(request)
        if answer != "OK":
            raise QemuFailed(f"QEMU's gdb server answers {answer or 'nothing'} to {request[:40]}")

    def _ask(self, request: str) -> str:
        self._packets.send(request)
        answer = self._packets.receive(_ANSWER_S)
        if answer is None:
            raise QemuFailed(f"QEMU's gdb server does not answer {request[:40]}")
        return answer


def _bytes(answer: str) -> bytes:
    try:
        return bytes.fromhex(answer)
    except ValueError as error:
        raise QemuFailed(f"QEMU's gdb server answers {answer[:40] or 'nothing'}") from error


def _lacks(what: str) -> None:
    raise UsageError(
        f"QEMU's gdb server {what}: interleavings cannot be explored with it",
        hint="QEMU 7.2 and later can; `klp-harness doctor` shows which one is used",
    )
