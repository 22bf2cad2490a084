# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness boot: a shell in a guest, or a script from standard input."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.exits import guarded
from harness.cli.guest_options import GuestOptions
from harness.cli.invocation import Invocation
from harness.cli.keeping import KeepOptions, keeping
from harness.cli.modules import ModuleFinder, check_named
from harness.cli.options import Accel, AccelAsked, KernelOptions, Smp
from harness.cli.prepare import check_kernels, prepare_accel, prepare_kernel
from harness.errors import ExitCode, KernelSplat, LostConnection
from harness.vm.guest import runs
from harness.vm.guest.rootfs import require_fitting
from harness.vm.guest.session import Fresh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.guest.machine import Machine

_ESCAPE = b"\x1d"
_LOOK_S = 0.25
_RETRY_S = 0.02
_CHUNK = 16384
# A root file system of the user's need not have bash.
_SHELL = "if command -v bash >/dev/null; then exec bash -s; else exec sh -s; fi"


@guarded
def boot(
    modules: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="MODULE",
            help="Modules to copy to /root: .ko files, names of samples, folders of sources.",
        ),
    ] = (),
    *,
    kernel: KernelOptions,
    accel: Accel = AccelAsked.AUTO,
    smp: Smp = 2,
    keep: KeepOptions,
    guest: GuestOptions,
) -> int:
    """Open a shell in a guest, to try things by hand; `exit` or Ctrl-] ends the guest.

    When standard input is not a terminal, it is run as a script; exit code 1 when the script fails.
    """
    with keeping(keep) as keeper, Invocation("boot") as invocation:
        terminal = invocation.terminal
        check_kernels(kernel)
        check_named(modules, contents=False)
        in_guest = guest.files()
        choice = prepare_accel(invocation, accel)
        root = guest.root(terminal)
        made = prepare_kernel(invocation, kernel)
        require_fitting(made, root)
        finder = ModuleFinder(terminal, made)
        files = [file for named in modules for file in finder.find(named)]
        terminal.note(f"kernel {made.describe()}, {choice.describe()}")
        if root is not None:
            terminal.note(f"root file system {root.source}")
        with (
            runs.open_session(
                choice,
                cpus=smp,
                memory_mib=guest.memory,
                kernel_args=guest.kernel_args,
                extra_files=in_guest,
                fresh=Fresh.BOOT,
                name="boot",
                keeper=keeper,
                root=root,
            ) as session,
            session.guest(made, name="boot") as machine,
        ):
            for file in files:
                machine.run(["ln", "-sf", machine.upload(file), f"/root/{file.name}"])
            if sys.stdin.isatty():
                terminal.note(f"logs: {machine.folder}; `exit` or Ctrl-] ends the guest")
                return _interactive(machine)
            code = _script(machine)
            if code != 0:
                session.failed(machine, made, f"the script ended with exit code {code}")
                terminal.note(f"the script ended with exit code {code}")
            return ExitCode.VERDICT if code != 0 else ExitCode.HELD


def _interactive(machine: Machine) -> ExitCode:
    size = shutil.get_terminal_size()
    channel = machine.shell(os.environ.get("TERM", "vt100"), size.columns, size.lines)

    def look() -> None:
        # A splat is the business of whoever types; only the guest's death ends the shell.
        with contextlib.suppress(KernelSplat):
            machine.hypervisor.check()

    with _raw_terminal(), _window_size(channel):
        _Pump(channel, look, escape=_ESCAPE).run()
    sys.stdout.write("\r\n")
    sys.stdout.flush()
    look()
    return ExitCode.HELD


def _script(machine: Machine) -> int:
    channel = machine.pipe(["sh", "-c", _SHELL])
    pump = _Pump(channel, machine.watch())
    pump.run()
    code = int(channel.recv_exit_status())
    if code < 0:
        machine.hypervisor.settle()
        raise LostConnection("the SSH connection ended while the script was running")
    machine.check_splats()
    return code


class _Pump:
    """Copies between our standard streams and a channel until the channel ends.

    ``channel`` is an SSH channel; ``look`` is called several times a second and may raise.
    """

    def __init__(self, channel: Any, look: Any, *, escape: bytes | None = None) -> None:
        self._channel = channel
        self._look = look
        self._escape = escape
        self._stdin_open = True
        self._pending = b""
        self._left = False

    def run(self) -> None:
        """Copy until the command ends, the connection ends, or the escape key is typed."""
        self._channel.settimeout(None)
        while not self._left:
            reading: list[Any] = [self._channel]
            if self._stdin_open and not self._pending:
                reading.append(sys.stdin.fileno())
            ready, _, _ = select.select(reading, [], [], _RETRY_S if self._pending else _LOOK_S)
            if sys.stdin.fileno() in ready:
                self._take_input()
            self._send()
            if not self._receive() and self._ended():
                return
            self._look()

    def _ended(self) -> bool:
        channel = self._channel
        drained = channel.eof_received and not channel.recv_ready()
        return bool(
            channel.closed or (drained and channel.exit_status_ready()) or not _connected(channel)
        )

    def _take_input(self) -> None:
        data = os.read(sys.stdin.fileno(), _CHUNK)
        if self._escape is not None and self._escape in data:
            self._left = True
            return
        if data:
            self._pending = data
            return
        self._stdin_open = False
        self._channel.shutdown_write()

    def _send(self) -> None:
        if self._pending and self._channel.send_ready():
            self._pending = self._pending[self._channel.send(self._pending) :]

    def _receive(self) -> bool:
        """Copy what there is to read; return whether there was anything."""
        moved = False
        for is_ready, receive, stream in (
            (self._channel.recv_ready, self._channel.recv, sys.stdout),
            (self._channel.recv_stderr_ready, self._channel.recv_stderr, sys.stderr),
        ):
            if is_ready():
                data = receive(_CHUNK)
                moved = moved or bool(data)
                stream.buffer.write(data)
                stream.flush()
        return moved


def _connected(channel: Any) -> bool:
    return bool(channel.get_transport().is_active())


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Pass every key to the guest; set the terminal as it was at the end."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _window_size(channel: Any) -> Iterator[None]:
    """Set the size of the guest's terminal whenever the window's changes."""

    def changed(_number: int, _frame: object) -> None:
        size = shutil.get_terminal_size()
        channel.resize_pty(size.columns, size.lines)

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
