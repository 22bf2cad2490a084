# SPDX-License-Identifier: GPL-2.0-only
"""Record and replay: a trial that anyone can run again, instruction by instruction.

QEMU counts instructions and writes every input of the guest to a file; in a replay the guest gets
the same input at the same instruction (docs/system/replay.rst of QEMU). That needs one CPU and no
network: the agent is reached over a serial port.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline, wait_until
from harness.errors import GuestHang, HarnessError, KernelVerdict, RaceShown, UsageError
from harness.tools.race.recording_file import (
    CONSOLE,
    IMAGE,
    INITRD,
    INPUTS,
    VMLINUX,
    Member,
    RecordingNote,
    kernel_member,
    pack,
    qemu_version,
)
from harness.tools.race.reproducer import run_steps
from harness.vm.cluster.artefacts import digest_of
from harness.vm.guest.initramfs import MODULE_DIR, RC_PLACE, RC_WITHOUT_NETWORK
from harness.vm.guest.qemu import GuestShape, Recording, RecordMode, replay_argv
from harness.vm.host.accel import Accel
from harness.vm.host.process import command_line, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.tools.race.reproducer import Reproducer
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

REPLAYED = "replayed.log"
GDB_SOCKET = "gdb"
_MOST_CPUS = 2
_QUIT_S = 120.0
_SOCKET_S = 60.0
_LINES = 5
_FOLDER = f"{MODULE_DIR}/recorded"


def guest_files(modules: Mapping[str, Path], aside: Path) -> dict[str, Path]:
    """Return the additional files of a recorded guest's initrd, by their paths in the guest.

    An upload over the serial port takes a minute. ``aside`` is a folder for a file to write.
    """
    init = aside / Path(RC_PLACE).name
    init.write_text(RC_WITHOUT_NETWORK)
    return {RC_PLACE: init, **{there: path for path, there in _places(modules).items()}}


def record(
    race: Reproducer,
    session: Session,
    kernel: Kernel,
    target: Path,
    *,
    modules: Mapping[str, Path],
    seed: int,
) -> RecordingNote:
    """Make one trial on one CPU, write it to a file, and return the file's note.

    The session's guests have ``guest_files``. A failure of the kernel is recorded. Raises
    HarnessError and GuestHang for a trial without an end.
    """
    start_s = time.monotonic()
    folder = session.folder
    inputs, console = folder / INPUTS, folder / CONSOLE
    recording = Recording(mode=RecordMode.RECORD, inputs=inputs, console=console)
    try:
        with session.guest(kernel, name=f"record-{race.name}", recording=recording) as machine:
            failed = _trial(race, machine, modules=modules, seed=seed)
            machine.disconnect()
            machine.hypervisor.quit(Deadline.after(_QUIT_S))
            shape = machine.hypervisor.shape
    except TimeoutError as error:
        raise HarnessError(
            f"{race.name} did not get as far as it should: {error}", artefacts=folder
        ) from error
    members: dict[Member, Path] = {INPUTS: inputs, INITRD: shape.initrd, CONSOLE: console}
    if kernel.image != kernel.vmlinux:
        members[IMAGE] = kernel.image
    if kernel.vmlinux is not None:
        members[VMLINUX] = kernel.vmlinux
    note = RecordingNote(
        reproducer=race.name,
        seed=seed,
        kernel=kernel.describe(),
        digest=kernel.digest,
        qemu=qemu_version(),
        argv=argv_of(shape.memory_mib, shape.kernel_args, kernel_member(members)),
        kernel_args=shape.kernel_args,
        memory_mib=shape.memory_mib,
        seconds=time.monotonic() - start_s,
        shown=isinstance(failed, RaceShown),
        message=failed.message if failed is not None else None,
        details=failed.details if failed is not None else (),
        files={name: digest_of(path) for name, path in members.items()},
    )
    pack(target, note, members)
    return note


def require_one_cpu(race: Reproducer) -> None:
    """Raise UsageError for a race that needs more than the one CPU of a recording."""
    if race.cpus > _MOST_CPUS:
        raise UsageError(f"{race.name} needs {race.cpus} CPUs, and a recording has one")


def require_same_qemu(file: Path, note: RecordingNote) -> None:
    """Raise UsageError when this QEMU, or this way of starting it, cannot replay a recording."""
    here = qemu_version()
    if here != note.qemu:
        raise UsageError(f"{file} was recorded by {note.qemu}, and this machine has {here}")
    if note.argv != argv_of(note.memory_mib, note.kernel_args, kernel_member(note.files)):
        raise UsageError(f"{file} was recorded by a klp-harness that starts QEMU in another way")


def replay(
    folder: Path,
    note: RecordingNote,
    *,
    deadline: Deadline,
    debug: Callable[[Path], None] | None = None,
    plugin: tuple[str, str] | None = None,
) -> int:
    """Run an unpacked recording again; return the size in bytes of its console, which is the same.

    With ``debug``, which is called with the socket of QEMU's gdb server, the guest waits at its
    first instruction until somebody continues it there. ``plugin`` is a plugin of QEMU and its
    shared file. Raises UsageError when there is no vmlinux for gdb, HarnessError when the replay
    does not end, or its console differs.
    """
    if debug is not None and VMLINUX not in note.files:
        raise UsageError(f"the recording has no vmlinux for gdb: {note.kernel} comes without one")
    console, qemu_log, socket = folder / REPLAYED, folder / "qemu.log", folder / GDB_SOCKET
    recording = Recording(
        mode=RecordMode.REPLAY,
        inputs=folder / INPUTS,
        console=console,
        gdb=socket if debug is not None else None,
    )
    image = folder / kernel_member(note.files)
    shape = _shape(image, note.memory_mib, note.kernel_args, recording)
    with ExitStack() as stack:
        log = stack.enter_context(qemu_log.open("wb"))
        process = stack.enter_context(spawn(replay_argv(shape, plugin), stdout=log, stderr=log))

        def ended() -> bool:
            return process.poll() is not None

        if debug is not None:
            wait_until(lambda: socket.exists() or ended(), deadline.within(_SOCKET_S))
            if not ended():
                debug(socket)
        in_time = wait_until(ended, deadline)
        code = process.returncode
    socket.unlink(missing_ok=True)
    details = tuple(qemu_log.read_text(errors="replace").splitlines()[-_LINES:])
    if not in_time:
        raise HarnessError("the replay did not end in time", details=details)
    recorded = (folder / CONSOLE).read_bytes()
    replayed = console.read_bytes() if console.exists() else b""
    if code or recorded != replayed:
        problem = difference(recorded, replayed) or f"QEMU ended the replay with code {code}"
        raise HarnessError(problem, details=details)
    return len(replayed)


def gdb_command(folder: Path) -> str:
    """Return the command that connects gdb to a replay that waits."""
    connect = f"target remote {folder / GDB_SOCKET}"
    return command_line(["gdb", folder / VMLINUX, "-ex", connect])


def difference(recorded: bytes, replayed: bytes) -> str | None:
    """Return a sentence on where two consoles differ, or None when they do not."""
    if recorded == replayed:
        return None
    pairs = zip(recorded, replayed, strict=False)
    at = next((n for n, (one, other) in enumerate(pairs) if one != other), len(replayed))
    line = recorded[:at].count(b"\n") + 1
    return (
        f"the replay differs from the recording: its console has {len(replayed)} bytes instead of "
        f"{len(recorded)}, and differs from line {line} on"
    )


def argv_of(memory_mib: int, kernel_args: tuple[str, ...], kernel: Member) -> tuple[str, ...]:
    """Return QEMU's command line for a replay, with a placeholder for the folder of its files."""
    nowhere = Path("FOLDER")
    recording = Recording(
        mode=RecordMode.REPLAY, inputs=nowhere / INPUTS, console=nowhere / CONSOLE
    )
    return tuple(replay_argv(_shape(nowhere / kernel, memory_mib, kernel_args, recording)))


def _trial(
    race: Reproducer, machine: Machine, *, modules: Mapping[str, Path], seed: int
) -> KernelVerdict | None:
    """Make the trial; return how the kernel failed. Raises GuestHang: no replay would end."""
    machine.has_files(_places(modules))
    try:
        run_steps(race, machine, modules=modules, seed=seed)
    except GuestHang:
        raise
    except KernelVerdict as error:
        return error
    return None


def _places(modules: Mapping[str, Path]) -> dict[Path, str]:
    return {path: f"{_FOLDER}/{path.name}" for path in modules.values()}


def _shape(
    image: Path, memory_mib: int, kernel_args: tuple[str, ...], recording: Recording
) -> GuestShape:
    return GuestShape(
        image=image,
        initrd=image.with_name(INITRD),
        accel=Accel.TCG,
        cpus=1,
        memory_mib=memory_mib,
        kernel_args=kernel_args,
        recording=recording,
    )
