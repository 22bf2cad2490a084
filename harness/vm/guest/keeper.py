# SPDX-License-Identifier: GPL-2.0-only
"""The guest in which something failed, kept: for a shell, gdb and a dump of its memory.

Whoever knows of a failure calls `Keeper.failed` while the guest still runs. The first guest of a
run that failed is the one that is kept: its QEMU passes to the keeper, and the run's own end does
not kill it. It still dies with this process, as every QEMU does.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import KlpError, QemuFailed
from harness.log import LOGGER
from harness.resources import runs_root
from harness.vm.guest import kept
from harness.vm.guest.control import ControlServer
from harness.vm.guest.dump import has_five_levels, phys_base, write_dump
from harness.vm.guest.gdb_server import open_gdb_server
from harness.vm.guest.kept import KeptGuest, KeptModule
from harness.vm.guest.run_folder import claim, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.vm.guest.hypervisor import Hypervisor
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.run_folder import RunFolder
    from harness.vm.kernel.kernel import Bootable

_ASK_S = 5.0
_SERVE_S = 60.0
DUMP = "vmcore"


@dataclass(frozen=True, kw_only=True)
class KeepPlan:
    """What to do with the first guest in which something fails.

    ``keep``: it is kept running. ``wait``: the thread that has seen the failure stays there until
    the guest is stopped. ``dump``: its memory is written to a file beside its logs. ``limit_s`` is
    how long it is kept at most, ``command`` what the list of kept guests says of it.
    """

    command: str
    keep: bool = False
    wait: bool = False
    dump: bool = False
    limit_s: float = 4 * 3600.0


class Keeper:
    """Keeps at most one guest. Implements what `Session` and `Hypervisor` need of it."""

    def __init__(self, plan: KeepPlan, say: Callable[[str], None]) -> None:
        """``say`` prints a line for people."""
        self.plan = plan
        self.guest: KeptGuest | None = None
        self._say = say
        self._lock = threading.Lock()
        self._taken = False
        self._stopped = threading.Event()
        self._stack = contextlib.ExitStack()
        # A child dies with the thread that started it: this one lives as long as the process.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="keeper")

    @property
    def starter(self) -> ThreadPoolExecutor:
        """The thread that has to start each QEMU which may be kept."""
        return self._starter

    @property
    def stops_all(self) -> bool:
        """Whether nothing is to begin after the first failure."""
        return self.plan.wait

    @property
    def has_failed(self) -> bool:
        """Whether something has failed."""
        return self._taken

    def failed(self, machine: Machine, kernel: Bootable, why: str) -> None:
        """Keep or dump the guest, unless an earlier one was; raises nothing of its own.

        ``why`` is the failure in a line. With ``wait`` this returns when the guest is stopped.
        """
        with self._lock:
            if self._taken:
                return
            self._taken = True
        if self.plan.dump:
            self._dump(machine, kernel)
        if not self.plan.keep:
            return
        try:
            self._keep(machine, kernel, why)
        except (KlpError, OSError) as error:
            self._say(f"the guest cannot be kept: {str(error).splitlines()[0]}")
            return
        if self.plan.wait:
            self.announce()
            self.wait()

    def announce(self) -> None:
        """Say how the guest is reached."""
        guest = self.guest
        if guest is None:
            return
        for line in kept.how_to_reach(guest):
            self._say(line)

    def wait(self) -> None:
        """Wait until somebody stops the guest, QEMU ends or the limit comes; then remove it."""
        guest = self.guest
        if guest is None:
            return
        limit = Deadline.after(max(0.0, guest.until - time.time()))
        while not (limit.expired or self._stopped.wait(0.25)):
            if not kept.is_alive(guest.qemu):
                break
        self.close()

    def stop(self) -> None:
        """Let `wait` return."""
        self._stopped.set()

    def close(self) -> None:
        """End the guest if there is one, and remove its key and its folder."""
        self._stack.close()
        self.guest = None

    def _keep(self, machine: Machine, kernel: Bootable, why: str) -> None:
        name = _name(machine.folder.name)
        # Outside of the run's folder, which is removed at the run's end.
        folder = runs_root() / f"{kept.PREFIX}{name}"
        with contextlib.ExitStack() as stack:
            claimed = claim(folder)
            stack.callback(_remove, claimed)
            with writing(folder):
                made = _describe(machine, kernel, name, folder)
                now = time.time()
                made = replace(
                    made,
                    why=why.splitlines()[0] if why else "",
                    command=self.plan.command,
                    started=now,
                    until=now + self.plan.limit_s,
                )
                shutil.copyfile(machine.keys.client_key, folder / kept.KEY)
                (folder / kept.KEY).chmod(0o600)
                kept.write_ssh_files(made, folder)
            machine.disconnect()
            hypervisor = machine.hypervisor
            _stay(hypervisor)
            stack.enter_context(hypervisor.stack.pop_all())
            stack.enter_context(self._serve(hypervisor, folder))
            with writing(folder):
                made.write(folder / kept.NOTE)
            self._stack = stack.pop_all()
        self.guest = made

    def _serve(self, hypervisor: Hypervisor, folder: Path) -> ControlServer:
        def dump(arguments: Mapping[str, str]) -> None:
            compressed = arguments.get("format") == "kdump-zlib"
            write_dump(hypervisor.monitor, arguments["path"], compressed=compressed)

        def gdb(_arguments: Mapping[str, str]) -> None:
            open_gdb_server(hypervisor.monitor, folder, Deadline.after(_SERVE_S))

        def stop(_arguments: Mapping[str, str]) -> None:
            self.stop()

        return ControlServer(folder, {"dump": dump, "gdb": gdb, "stop": stop})

    def _dump(self, machine: Machine, kernel: Bootable) -> None:
        path = machine.folder / DUMP
        try:
            made = _describe(machine, kernel, machine.folder.name, machine.folder)
            write_dump(machine.hypervisor.monitor, str(path), compressed=False)
            kept.note_of_dump(made, path)
        except (KlpError, OSError) as error:
            self._say(f"the guest's memory cannot be dumped: {str(error).splitlines()[0]}")
            return
        self._say(f"dump: {path}; klp-harness dump --read {path}")


def _describe(machine: Machine, kernel: Bootable, name: str, folder: Path) -> KeptGuest:
    """Return what is known of the guest; what it does not answer is left out."""
    hypervisor = machine.hypervisor
    vmlinux, build = getattr(kernel, "vmlinux", None), getattr(kernel, "build_dir", None)
    modules: dict[str, KeptModule] = {}
    text = None
    # The splat that it failed with, if it did, is no reason for it not to answer.
    with hypervisor.expected.all_known():
        if kept.answers(machine):
            try:
                text = kept.text_address(machine)
                modules = kept.read_modules(machine, folder)
            except (KlpError, OSError, TimeoutError) as error:
                LOGGER.info("the guest does not say where its modules are: %s", error)
    return KeptGuest(
        name=name,
        owner=os.getpid(),
        qemu=hypervisor.pid,
        port=hypervisor.ssh_port(Deadline.after(_ASK_S)),
        host_public=machine.keys.host_public,
        kernel=kernel.describe(),
        vmlinux=str(vmlinux) if vmlinux is not None else None,
        build_dir=str(build) if build is not None else None,
        memory_mib=hypervisor.shape.memory_mib,
        cpus=hypervisor.cpus,
        logs=str(machine.folder),
        text=text,
        phys_base=phys_base(hypervisor.monitor, text, Deadline.after(_ASK_S)),
        five_levels=has_five_levels(hypervisor.monitor, Deadline.after(_ASK_S)),
        modules=modules,
    )


def _stay(hypervisor: Hypervisor) -> None:
    """Let QEMU stand still, and not end, when the guest restarts or shuts down.

    One that panicked restarts as soon as gdb lets it go on. QEMU before 6.0 cannot do that.
    """
    wanted = {"reboot": "shutdown", "shutdown": "pause"}
    try:
        hypervisor.monitor.execute("set-action", wanted, deadline=Deadline.after(_ASK_S))
    except QemuFailed as error:
        LOGGER.info("a guest that restarts will be gone: %s", error)


def _name(folder: str) -> str:
    """Return a name for a guest of which the logs are in a folder of that name."""
    words = folder.rsplit("-", 2)[0]  # process and number of the guest follow
    return f"{words[:40].rstrip('-_.')}-{secrets.token_hex(2)}"


def _remove(claimed: RunFolder) -> None:
    shutil.rmtree(claimed.path, ignore_errors=True)
    claimed.release()
