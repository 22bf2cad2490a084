# SPDX-License-Identifier: GPL-2.0-only
"""One QEMU process with its monitor and console, and the one place that says how a guest ended."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.deadline import Deadline, wait_until
from harness.errors import (
    BootFailed,
    CommandTimeout,
    GuestHang,
    GuestReset,
    HarnessError,
    KlpError,
    LostGuest,
    QemuFailed,
)
from harness.klog.splats import Category, Splat
from harness.vm.guest.boot_failures import of_what_lacks
from harness.vm.guest.console import Console
from harness.vm.guest.dump_state import dump_state
from harness.vm.guest.events import GuestEvents
from harness.vm.guest.expected_splats import ExpectedSplats
from harness.vm.guest.initramfs import LACKS_LINE, READY_LINE
from harness.vm.guest.lines import Lines
from harness.vm.guest.liveness import LEAST_SHARE, Liveness, read_threads
from harness.vm.guest.plugin import file_of, observed_by
from harness.vm.guest.privileges import as_whom
from harness.vm.guest.qemu import GuestShape, Wiring, build_argv
from harness.vm.guest.qmp import Monitor
from harness.vm.guest.run_folder import writing
from harness.vm.guest.serial_line import serial_ends
from harness.vm.guest.splat_verdict import of_panic, of_splats
from harness.vm.host.process import Process, kill_group, spawn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import ThreadPoolExecutor

    from harness.vm.guest.root_disk import Layers

_START_S = 20.0
# kernel/reboot.c: "reboot: System halted", also of a kernel that cannot power the machine off; 7.2
# says "reboot: Power off not available: System halted instead" there.
_HALTED = ": System halted"
_SETTLE_S = 3.0
_SPLAT_GROWS_S = 0.7
_HANG_LINES = 60
# How long before a failure its cause may lie, and what a guest that hangs has had of the CPU: it is
# given more time when it has had less (see AgentLink.watch).
_CAUSE_S = 60.0
_HANG_SHARE = 1 / 8


class Hypervisor:
    """A started QEMU. Implements harness.vm.guest.backend.Backend."""

    def __init__(
        self,
        shape: GuestShape,
        folder: Path,
        stack: contextlib.ExitStack,
        *,
        starter: ThreadPoolExecutor | None = None,
    ) -> None:
        """``starter``: starts QEMU, for a guest that may be kept: it stays when it panics or hangs.

        ``stack`` is what ends QEMU, and may be exchanged.
        """
        self.shape = shape
        self.folder = folder
        self.events = GuestEvents()
        self.stack = stack
        self._starter = starter
        self.expected = ExpectedSplats()
        self._panicked = False
        self._shutdown: str | None = None
        self._splat_since_s: float | None = None
        self._process: Process[bytes] | None = None
        self._console_ended_s: float | None = None
        self._liveness: Liveness | None = None
        self.lines: Lines | None = None
        self.observed: Path | None = None  # what the plugin of QEMU has written

    def start(
        self,
        *,
        ram_path: str | None = None,
        shared_ram: bool = False,
        incoming: bool = False,
        pass_fds: tuple[int, ...] = (),
        layers: Layers | None = None,
        deadline: Deadline,
    ) -> None:
        """Start QEMU; raises QemuFailed with its output when that fails.

        The sockets are bound before QEMU starts and handed over as descriptors: there is no race,
        and no path that could be too long for a unix socket.
        """
        recorded = self.shape.recording is not None
        serial_ours, serial_theirs = serial_ends(recorded=recorded)
        monitor_ours, monitor_theirs = socket.socketpair()
        log_path = self.folder / "qemu.log"
        with writing(self.folder):
            log = self.stack.enter_context(log_path.open("wb"))
            self.console = Console(serial_ours, self.folder / "console.log", self.events)
        self.monitor = Monitor(monitor_ours, self._on_event, self._check_host)
        self.stack.callback(self.console.close)
        self.stack.callback(self.monitor.close)
        with contextlib.ExitStack() as opened:
            opened.enter_context(serial_theirs)
            opened.enter_context(monitor_theirs)
            self.lines = lines = Lines(self.folder, recorded=recorded)
            self.stack.callback(lines.remove)
            opened.callback(lines.started)
            with writing(self.folder):
                plugin, self.observed = observed_by(self.shape.plugin, self.folder.name)
                wiring = Wiring(
                    serial_fd=serial_theirs.fileno(),
                    monitor_fd=monitor_theirs.fileno(),
                    ram_path=ram_path,
                    shared_ram=shared_ram,
                    incoming=incoming,
                    agent_fd=lines.agent.fd,
                    ssh_fd=lines.ssh_fd,
                    agent_pipe=lines.agent.path,
                    plugin=plugin,
                    layers=layers,
                )
                started = as_whom(self.shape, wiring, opened)
            argv = build_argv(self.shape, started.wiring)
            fds = (*started.descriptors, *pass_fds)
            process = spawn(argv, stdout=log, stderr=log, pass_fds=fds, rights=started.rights)
            if self._starter is None:
                self._process = self.stack.enter_context(process)
            else:
                self._process = self._starter.submit(self.stack.enter_context, process).result()
        self._liveness = Liveness(self.pid, self.monitor)
        self.stack.callback(self._liveness.close)
        try:
            self.monitor.connect(deadline.within(_START_S))
        except (QemuFailed, CommandTimeout) as error:
            raise QemuFailed(
                "QEMU did not start",
                hint="`klp-harness doctor` lists what this machine lacks",
                details=self._qemu_output() or (error.message,),
                artefacts=self.folder,
            ) from error
        if self._starter is not None:
            self.monitor.execute("set-action", {"panic": "pause"}, deadline=deadline)

    def quit(self, deadline: Deadline) -> None:
        """Ask QEMU to end, which completes a recording; raises QemuFailed."""
        # It may end before it has answered, or have ended with its guest.
        with contextlib.suppress(QemuFailed, CommandTimeout):
            self.monitor.execute("quit", deadline=deadline)
        if not wait_until(self._is_dead, deadline):
            raise self.explain(QemuFailed("QEMU did not end when it was asked to"))
        wait_until(lambda: self.console.ended, Deadline.after(_SETTLE_S))

    @property
    def cpus(self) -> int:
        """How many CPUs the guest was asked for."""
        return self.shape.cpus

    def ssh_port(self, deadline: Deadline) -> int:
        """Return the loopback port that QEMU bound for the guest's SSH; raises QemuFailed."""
        return self.monitor.ssh_port(deadline=deadline)

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        assert self._process is not None
        return self._process.pid

    def move_logs(self, folder: Path) -> None:
        """Rename the folder of its logs, whose open files stay open."""
        self.folder.rename(folder)
        self.folder = folder
        self.console.log_path = folder / self.console.log_path.name
        if self.observed is not None:
            self.observed = self.observed.rename(file_of(folder.name, self.observed.parent))

    def cpu_s(self) -> float:
        """Return the CPU time of all QEMU's threads so far, in seconds; 0 after its end."""
        return sum(each.ran_s for each in read_threads(Path(f"/proc/{self.pid}/task")).values())

    def expect_splat(self, pattern: str, *, required: bool = True) -> None:
        """Declare a splat: one whose title or text matches is not an error, and may be required."""
        self.expected.add(pattern, required=required)

    def unexpected_splats(self) -> tuple[Splat, ...]:
        """Return the splats on the console that no test declared."""
        return self.expected.unexpected(self.console.splats())

    def unmet_expectations(self) -> tuple[str, ...]:
        """Return the patterns of splats that are required and have not come."""
        return self.expected.unmet(self.console.splats())

    def check(self) -> None:
        """Raise how the guest ended (panic, reset, loss of QEMU) or its splat, if that is known.

        Raises a HarnessError when QEMU has been stopped, or the guest is not heard any more.
        """
        error = self._death() or self._splat()
        if error is not None:
            raise error
        self._check_host()

    def require_ran(self, since_s: float, *, share: float = LEAST_SHARE) -> None:
        """Raise unless the guest could run since that moment of ``time.monotonic()``.

        To be called before a wait in vain becomes a verdict. Raises how the guest ended, and
        GuestStopped, GuestStarved or QemuFailed as `Liveness.require_ran` does.
        """
        self.check()
        if self._liveness is None or self._is_dead():
            return
        try:
            self._liveness.require_ran(since_s, share=share)
        except QemuFailed:
            self.check()  # QEMU has ended meanwhile
            raise

    def could_run_s(self, since_s: float) -> float:
        """Return for how many seconds the guest could run since that moment."""
        if self._liveness is None:
            return time.monotonic() - since_s
        return self._liveness.lost_since(since_s).could_run_s

    def settle(self, seconds: float = _SETTLE_S) -> None:
        """After a failure: give its cause a moment to show, and raise it when it does."""
        wait_until(self._is_dead, Deadline.after(seconds))
        self.check()
        splats = self.unexpected_splats()
        if splats:
            raise of_splats(splats, self._liveness, self.folder)
        self.require_ran(time.monotonic() - _CAUSE_S)

    def _check_host(self) -> None:
        """Raise when QEMU is stopped, or its console or its monitor is not read any more."""
        problem = self.console.problem() or self._unheard()
        if problem is None and self._liveness is not None:
            problem = self.monitor.problem() or self._liveness.problem()
        if problem is not None:
            raise self.explain(problem)

    def _unheard(self) -> HarnessError | None:
        if not self.console.ended or self._process is None or self._is_dead():
            return None
        now_s = time.monotonic()
        self._console_ended_s = self._console_ended_s or now_s
        # QEMU closes its end a moment before it is seen to have ended.
        if now_s - self._console_ended_s < 2 * _SETTLE_S:
            return None
        return HarnessError("QEMU runs, and its serial line has ended: no splat can be seen")

    def explain(self, error: KlpError) -> KlpError:
        """Return the error with the console's last lines and the folder of all logs."""
        if not error.details:
            error.details = self.console.tail()
        if error.artefacts is None:
            error.artefacts = self.folder
        return error

    def wait_for_boot(self, deadline: Deadline) -> None:
        """Wait until user space is up.

        Raises BootFailed when it is not before the deadline, or when the guest itself reports what
        its kernel lacks; GuestPanic and the like when the guest ends so.
        """
        since_s = time.monotonic()
        up = self.events.wait(
            lambda: self.console.contains(READY_LINE), deadline, between=self.check
        )
        if not up:
            self.require_ran(since_s)
            self._dump_state()
            self._end()
            raise self.explain(
                BootFailed(
                    "the guest did not reach user space in time",
                    hint="the console's last lines show where it stopped; a kernel needs the "
                    "options of kernel-configs/base.config",
                )
            )
        lacks = [line for line in self.console.text().splitlines() if LACKS_LINE in line]
        if lacks:
            self.kill()
            raise self.explain(of_what_lacks(lacks[0].partition(LACKS_LINE)[2]))

    def end_hung(self, silent_s: float) -> GuestHang:
        """End a guest that has not answered for so many seconds; return the error that says so.

        Raises GuestStopped and the like when it could not have answered.
        """
        self.require_ran(time.monotonic() - silent_s, share=_HANG_SHARE)
        self._dump_state()
        self._end()
        return GuestHang(
            f"the guest has not answered for {silent_s:.0f} s: it hangs",
            hint="console.log ends with what SysRq and an NMI made it print",
            details=self.console.tail(_HANG_LINES),
            artefacts=self.folder,
        )

    def _dump_state(self) -> None:
        """Make a guest that does not answer print on the console where it is."""
        dump_state(self.monitor, self.console, self._is_dead, sysrq=self.shape.recording is None)

    def _end(self) -> None:
        if self._starter is None:
            self.kill()

    def kill(self) -> None:
        """Kill QEMU at once."""
        if self._process is not None:
            kill_group(self._process)

    def _on_event(self, name: str, data: Mapping[str, Any]) -> None:
        if name == "GUEST_PANICKED":
            self._panicked = True
        elif name == "SHUTDOWN":
            self._shutdown = str(data.get("reason", "unknown"))
        elif name == "VSERPORT_CHANGE" and not data.get("open"):
            assert self.lines is not None
            self.lines.end(str(data["id"]))
        self.events.notify()

    def _is_dead(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _death(self) -> KlpError | None:
        if self._panicked and not self._is_dead():
            wait_until(self._is_dead, Deadline.after(_SETTLE_S))
        elif not self._is_dead():
            return self._halt()
        # The console's reader still holds what QEMU wrote before it ended.
        wait_until(lambda: self.console.ended, Deadline.after(_SETTLE_S))
        if self._process is not None and self._process.returncode == 0:
            # It ended by itself and sent the reason, which the monitor may not have read yet.
            wait_until(lambda: self._shutdown is not None, Deadline.after(_SETTLE_S))
        panics = [s for s in self.console.splats() if s.category is Category.PANIC]
        if self._panicked or panics:
            return self._panic(panics)
        if self._shutdown is not None and self._shutdown.startswith("guest-"):
            what = "reset itself" if "reset" in self._shutdown else "powered itself off"
            return self.explain(
                GuestReset(f"the guest {what} without a panic (QEMU says {self._shutdown})")
            )
        return self._lost()

    def _halt(self) -> KlpError | None:
        """Return that the kernel has stopped for good, which QEMU does not notice."""
        if not self.console.contains(_HALTED):
            return None
        return self.explain(GuestReset("the guest halted itself without a panic"))

    def _panic(self, panics: list[Splat]) -> KlpError | None:
        if panics and not self.expected.unexpected(panics):
            return self.explain(LostGuest("the guest has ended with the panic that was expected"))
        return of_panic(self.unexpected_splats(), self._liveness, self.folder, self.console.tail())

    def _lost(self) -> KlpError:
        assert self._process is not None
        code = self._process.returncode
        how = (
            f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        )
        return LostGuest(
            f"QEMU {how} while the guest was running",
            hint="look for the host's out-of-memory killer" if code == -signal.SIGKILL else None,
            details=(*self._qemu_output(), *self.console.tail()),
            artefacts=self.folder,
        )

    def _splat(self) -> KlpError | None:
        splats = self.unexpected_splats()
        if not splats:
            return None
        now = time.monotonic()
        if self._splat_since_s is None:
            self._splat_since_s = now
        # A splat is printed line by line, and a panic may follow an oops: wait for the end.
        if now - self._splat_since_s < _SPLAT_GROWS_S:
            return None
        return of_splats(splats, self._liveness, self.folder)

    def _qemu_output(self) -> tuple[str, ...]:
        return tuple((self.folder / "qemu.log").read_text(errors="replace").splitlines()[-10:])
