# SPDX-License-Identifier: GPL-2.0-only
"""A running guest: everything that a test can ask of it. Every wait ends when the guest ends."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Self

from harness.agent_protocol import (
    PROTOCOL_VERSION,
    Directory,
    DirEntry,
    FilePoll,
    FileStatus,
    Hello,
    KlogBatch,
    Op,
    Spawned,
    Stragglers,
    TaskSample,
    Text,
)
from harness.errors import (
    BootFailed,
    HarnessError,
    KernelSplat,
    LogIncomplete,
    LostConnection,
    ModuleRefused,
)
from harness.vm.guest.agent import check_reply, errno_of
from harness.vm.guest.agent_link import REQUEST_S, AgentLink
from harness.vm.guest.command import Ran, run_command
from harness.vm.guest.hypervisor import Hypervisor
from harness.vm.guest.initramfs import AGENT_PORT, MODULE_DIR
from harness.vm.guest.spawned import SpawnedProcess
from harness.vm.guest.upload import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.guest.agent import Stream
    from harness.vm.guest.backend import Backend
    from harness.vm.guest.keys import RunKeys
    from harness.vm.guest.ssh import SshSession

_PAST_THE_END = 1 << 62
_CONNECT_S = 15.0
_LOG_S = 120.0


class ModuleWatch:
    """What is done around the load and unload of modules: nothing, unless a subclass says so."""

    def loading(self, name: str, source: Path | None) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """Return what a module is loaded in; ``source`` is its file on the host, if it was sent."""
        return contextlib.nullcontext()

    def unloading(self, name: str) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """Return what a module is unloaded in."""
        return contextlib.nullcontext()


class Machine:
    """One guest. Implements harness.livepatch.guest.Guest."""

    def __init__(
        self,
        backend: Backend,
        keys: RunKeys,
        *,
        time_scale: float,
        uploads_to: str = MODULE_DIR,
    ) -> None:
        self.keys = keys
        self._backend = backend
        self._link = AgentLink(backend, time_scale)
        self._uploads = Uploads(self._link, uploads_to, self.run)
        self._ssh: SshSession | None = None
        # Whoever follows what is loaded (harness/observer/) sets this.
        self.module_watch: ModuleWatch = ModuleWatch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.disconnect()

    @property
    def time_scale(self) -> float:
        """How much slower than hardware this guest is: deadlines are multiplied by it."""
        return self._link.time_scale

    @property
    def folder(self) -> Path:
        """Where this guest's logs lie: console.log, qemu.log."""
        return self._backend.folder

    @property
    def hypervisor(self) -> Hypervisor:
        """The QEMU of this process that runs the guest.

        Raises HarnessError when another process runs it.
        """
        if not isinstance(self._backend, Hypervisor):
            raise HarnessError("another process runs this guest, and watches its console")
        return self._backend

    def scaled(self, seconds: float) -> Deadline:
        """Return a deadline for something that takes so many seconds on quick hardware."""
        return self._link.scaled(seconds)

    def connect(self) -> None:
        """Reach the agent; check that all its CPUs came up. SSH is connected when it is needed.

        Raises LostConnection, and BootFailed when CPUs are missing.
        """
        deadline = self.scaled(_CONNECT_S)
        with self._link.explained():
            self._link.open(self._reach_agent(deadline))
        hello = Hello.of(self._link.call("hello", deadline=deadline))
        if hello.protocol != PROTOCOL_VERSION:
            raise LostConnection(
                f"the guest agent speaks protocol {hello.protocol}, not {PROTOCOL_VERSION}"
            )
        wanted = self._backend.cpus
        if hello.cpus_online != wanted:
            raise self._backend.explain(
                BootFailed(
                    f"the guest was asked for {wanted} CPUs and brought up {hello.cpus_online}",
                    hint="an SMP guest needs CONFIG_SMP, and CONFIG_ACPI or CONFIG_X86_MPPARSE",
                )
            )

    def _reach_agent(self, deadline: Deadline) -> Stream:
        if self._backend.lines is not None:
            return self._backend.lines.agent
        return self.ssh(deadline).reach(AGENT_PORT, deadline)

    def ssh(self, deadline: Deadline | None = None) -> SshSession:
        """Return the SSH connection, which is made when it is first asked for.

        Raises LostConnection, also for a guest that is recorded, which has no network.
        """
        if isinstance(self._backend, Hypervisor) and self._backend.shape.recording is not None:
            raise LostConnection("this guest has no network, so no SSH: nothing can be run there")
        if self._ssh is None:
            # Most commands need no SSH, and paramiko is a seventh of what their start imports.
            from harness.vm.guest.ssh import connect, reach

            deadline = deadline or self.scaled(_CONNECT_S)
            lines = self._backend.lines
            with self._link.explained():
                line = lines.take_ssh() if lines is not None else None
                self._ssh = connect(
                    line or reach(self._backend.ssh_port(deadline), deadline),
                    self.keys,
                    events=self._backend.events,
                    deadline=deadline,
                    between=self._backend.check,
                )
        return self._ssh

    def disconnect(self) -> None:
        """Close agent and SSH; the guest keeps running."""
        self._link.close()
        self.end_ssh()

    def end_ssh(self) -> bool:
        """Close SSH; return whether it was connected."""
        if self._ssh is None:
            return False
        self._ssh.close()
        self._ssh = None
        return True

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes = b"",
        deadline: Deadline | None = None,
    ) -> Ran:
        """Run a command to its end and return its exit code and output; see `run_command`."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        deadline = deadline or self.scaled(REQUEST_S)
        return run_command(self._link, argv, stdin=data, deadline=deadline)

    def shell(self, term: str, columns: int, rows: int) -> Any:
        """Start an interactive shell; returns its channel."""
        with self._link.explained():
            return self.ssh().shell(term, columns, rows, self.scaled(_CONNECT_S))

    def pipe(self, argv: Sequence[str]) -> Any:
        """Start a command without a terminal; returns its channel."""
        with self._link.explained():
            return self.ssh().pipe(argv, self.scaled(_CONNECT_S))

    def watch(self) -> Callable[[], None]:
        """Return what a wait of another kind has to call several times a second.

        It raises how the guest ended, GuestHang when it does not answer, and GuestStopped and the
        like when it cannot.
        """
        return self._link.watch()

    def spawn(self, program: str, *args: str) -> SpawnedProcess:
        """Start a guest program (a name in /bin or a full path)."""
        path = program if program.startswith("/") else f"/bin/{program}"
        reply = check_reply(self._link.call("spawn", path, *args), path)
        return SpawnedProcess(self._link, Spawned.of(reply).pid, path)

    def read(self, path: str, *, deadline: Deadline | None = None) -> str:
        """Return the content of a file; raises HarnessError for one of more than 1 MiB."""
        found = Text.of(self.request("read", path, deadline=deadline))
        if found.truncated:
            raise HarnessError(
                f"{path} in the guest has more than 1 MiB, and is not read in part",
                hint="have the guest look for what is wanted in it: run() with grep or tail",
            )
        return found.text

    def write(self, path: str, text: str, *, deadline: Deadline | None = None) -> None:
        """Write a text to a file by one write(2)."""
        self.request("write", path, text, deadline=deadline)

    def list_dir(self, path: str) -> tuple[DirEntry, ...]:
        """Return a directory's entries, sorted by name."""
        entries = Directory.of(self.request("list", path)).entries
        return tuple(sorted(entries, key=lambda entry: entry.name))

    def stat(self, path: str) -> FileStatus:
        """Return type, mode and size of a file."""
        return FileStatus.of(self.request("stat", path))

    def poll_file(self, path: str, op: Op, value: str, *, deadline: Deadline) -> FilePoll:
        """Wait in the guest until the file's content meets the condition, or the deadline."""
        reply = self._link.patient_call("poll-file", path, op.value, value, deadline=deadline)
        return FilePoll.of(reply)

    def has_files(self, there: Mapping[Path, str]) -> None:
        """Record that the guest was booted with these host files, by their paths in the guest."""
        self._uploads.add_present(there)

    def upload(self, path: Path) -> str:
        """Copy a host file into the guest; return its path there. The same file is sent once."""
        return self._uploads.send(path)

    def uploaded(self) -> tuple[Path, ...]:
        """Return the host files that this guest has been sent, or was booted with."""
        return self._uploads.files

    def tasks(self) -> TaskSample:
        """Return all threads with their patch states."""
        return TaskSample.of(self.request("tasks"))

    def poll_tasks(self, state: int, *, but: Sequence[int], deadline: Deadline) -> Stragglers:
        """Wait in the guest until every thread but those has that patch state, or the deadline."""
        but_text = ",".join(str(tid) for tid in but)
        reply = self._link.patient_call("poll-tasks", str(state), but_text, deadline=deadline)
        return Stragglers.of(reply)

    def stack(self, tid: int) -> str:
        """Return /proc/TID/stack."""
        return Text.of(self.request("stack", str(tid))).text

    def klog(self, since: int = 0) -> KlogBatch:
        """Return the kernel log's records from that sequence number on."""
        return KlogBatch.of(self.request("klog", str(since)))

    def insmod(self, path: str, params: str = "", *, deadline: Deadline | None = None) -> None:
        """Load the module file at that guest path; raises ModuleRefused with the kernel's errno."""
        name = path.rsplit("/", 1)[-1].removesuffix(".ko").replace("-", "_")
        with self.module_watch.loading(name, self._uploads.source_of(path)):
            self._module("insmod", name, path, params, deadline=deadline)

    def rmmod(self, name: str) -> None:
        """Unload a module; raises ModuleRefused with the kernel's errno."""
        with self.module_watch.unloading(name):
            self._module("rmmod", name, name)

    def wait(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait on the host until the condition holds; return False when the deadline came first.

        Raises how the guest ended when it ends meanwhile.
        """
        return self._link.wait(condition, deadline)

    def request(self, verb: str, *args: str, deadline: Deadline | None = None) -> Any:
        """Send the agent one request and return its reply; raises OSError with its errno."""
        return self._link.request(verb, *args, deadline=deadline)

    def expect_splat(self, pattern: str, *, required: bool = True) -> None:
        """Declare a splat that this test causes on purpose (a regular expression).

        One that is not ``required`` may also not come.
        """
        self.hypervisor.expect_splat(pattern, required=required)

    def check_splats(self) -> None:
        """Raise KernelSplat when the kernel log has a splat that no test declared.

        A mark is written to the kernel log first and awaited on the console, so that everything
        printed before has been read. Raises KernelSplat also when a declared splat did not come,
        how the guest ended when it has, and LogIncomplete or NoSpace for a log of which something
        is missing: it may have held a splat.
        """
        hypervisor = self.hypervisor
        console = hypervisor.console
        mark = f"klp-harness: mark {time.monotonic_ns()}"
        console.contains(mark)  # looked for from here on
        self.write("/dev/kmsg", f"<4>{mark}\n")
        if not self._wait_on_console(mark):
            if hypervisor.unexpected_splats():
                hypervisor.settle()
            raise hypervisor.explain(
                console.incomplete()
                or LogIncomplete("the kernel log does not reach the console: it cannot be checked")
            )
        if hypervisor.unexpected_splats():
            hypervisor.settle()
        problem = console.incomplete()
        if problem is not None:
            raise hypervisor.explain(problem)
        unmet = hypervisor.unmet_expectations()
        if unmet:
            raise hypervisor.explain(
                KernelSplat(f"the splat that was expected did not come: {', '.join(unmet)}")
            )

    def _wait_on_console(self, mark: str) -> bool:
        """Wait for a text on the console, as long as that is busy with what comes before it.

        Its speed is the emulated serial port's, and a kernel log may be megabytes.
        """
        console = self.hypervisor.console
        longest = self.scaled(_LOG_S)
        while True:
            before = console.size
            if self.wait(lambda: console.contains(mark), self.scaled(REQUEST_S)):
                return True
            if console.size == before or longest.expired:
                return False

    def _module(self, verb: str, name: str, *args: str, deadline: Deadline | None = None) -> None:
        since = self.klog(_PAST_THE_END).next
        reply = self._link.call(verb, *args, deadline=deadline)
        self._link.check_alive(reply, verb, name)
        number = errno_of(reply)
        if number:
            log = tuple(record.text for record in self.klog(since).records)
            raise ModuleRefused(
                name,
                number,
                action="load" if verb == "insmod" else "unload",
                details=log[-10:],
                artefacts=self.folder,
            )
