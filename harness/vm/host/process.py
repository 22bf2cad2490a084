# SPDX-License-Identifier: GPL-2.0-only
"""Host processes: the only file that uses subprocess.

Every child but those of `foreground` leads a process group of its own, and dies with
the thread that started it (setpriv's ``--pdeathsig``, see prctl(2) PR_SET_PDEATHSIG: "parent" is a
thread there), so that kill -9 of the harness leaves nothing behind. Start long-lived children from
a thread that lives as long.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.errors import CommandFailed, CommandTimeout, HarnessError, MissingTool, NoSpace
from harness.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.deadline import Deadline

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
STDOUT = subprocess.STDOUT

Process = subprocess.Popen
"""A started child. Its standard streams are binary."""

_KILL_GRACE_S = 3.0
_TAIL_LINES = 20
_DIE_WITH_PARENT = "KLP_HARNESS_DIE_WITH_PARENT"
_PR_SET_PDEATHSIG = 1
# Debian has dropbear and depmod there, and only root has these folders in PATH.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that ended. ``returncode`` is negative when a signal killed it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def find_program(name: str | Path) -> str:
    """Return the full path of a program, looked for in PATH and in the system's own folders.

    Raises MissingTool when it is not installed or not executable.
    """
    folders = [os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS]
    found = shutil.which(str(name), path=os.pathsep.join(folders))
    if found is None:
        raise MissingTool(
            f"the program {name} is not installed",
            hint="run `klp-harness doctor`: it names the package that has it",
        )
    return found


@contextlib.contextmanager
def spawn(
    argv: Sequence[str | Path],
    *,
    stdin: int | IO[bytes] = DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGKILL,
    rights: Sequence[str] = (),
    nice: int = 0,
) -> Iterator[Process[bytes]]:
    """Start a child in a process group of its own; on leaving, kill the whole group and reap it.

    ``death_signal`` is what the child gets when the calling thread dies: SIGTERM suits programs
    that have children of their own to clean up (make), SIGKILL all others. ``rights`` are options
    of setpriv(1) that change the child's user or capabilities. ``nice`` lets others go first.
    Raises MissingTool, or HarnessError when the host cannot start a process.
    """
    program = find_program(argv[0])
    guarded = [
        find_program("setpriv"),
        *rights,
        "--pdeathsig",
        signal.Signals(death_signal).name.removeprefix("SIG"),
        program,
        *(str(arg) for arg in argv[1:]),
    ]
    LOGGER.debug("starting: %s", command_line(argv))
    try:
        child = subprocess.Popen(
            guarded,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            # The harness reads messages (no space, a refused MSR), so they must be in one language.
            env={**os.environ, "LC_ALL": "C.UTF-8"} if env is None else dict(env),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    except OSError as error:
        raise HarnessError(f"cannot start {argv[0]}: {error.strerror}") from error
    try:
        if nice:
            _let_others_go_first(child.pid, nice)
        yield child
    finally:
        kill_group(child)
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                # A pipe whose reader has ended cannot be flushed, and need not be.
                with contextlib.suppress(OSError):
                    stream.close()


def _let_others_go_first(pid: int, nice: int) -> None:
    """Lower the priority of a child, and of its session where the host schedules by these."""
    # It may have ended, and a kernel without autogroups (sched(7)) has no such file.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}")


def foreground(argv: Sequence[str | Path], *, to_stderr: bool = False) -> int:
    """Run a command with this terminal as its own, for sudo and apt-get; return its exit code.

    ``to_stderr``: what it prints goes to standard error.
    It stays in our process group, so that Ctrl-C reaches it and sudo may ask for a password.
    """
    command = [find_program(argv[0]), *(str(arg) for arg in argv[1:])]
    return subprocess.call(command, stdout=sys.stderr.fileno() if to_stderr else None)


def kill_group(child: Process[bytes]) -> None:
    """Kill the child's whole process group and reap the child, unless that was done before."""
    if child.returncode is None:
        _signal_group(child)
        try:
            child.wait(timeout=_KILL_GRACE_S)
        except subprocess.TimeoutExpired:
            # In an uninterruptible sleep: the kernel reaps it when that ends.
            LOGGER.warning("process %d does not die (%s)", child.pid, child.args)


def run(
    argv: Sequence[str | Path],
    *,
    deadline: Deadline,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    explain: Callable[[CommandFailed], Exception] | None = None,
    on_line: Callable[[str], None] | None = None,
    log_path: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    nice: int = 0,
) -> Finished:
    """Run a command to its end and return its output, decoded with replacement characters.

    ``on_line`` sees each line of both outputs as it comes; both are appended to ``log_path``.
    Raises CommandTimeout when the deadline came first (the whole process group is then killed),
    CommandFailed, or what ``explain`` makes of it, when ``check`` is set and the command failed,
    NoSpace when it failed for want of disk space, MissingTool when it is not installed.
    """
    start = time.monotonic()
    with (
        contextlib.nullcontext() if log_path is None else log_path.open("ab") as log,
        spawn(
            argv,
            stdin=DEVNULL if stdin is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=cwd,
            env=env,
            death_signal=death_signal,
            nice=nice,
        ) as child,
    ):
        collector = _Collector(on_line, log)
        in_time = collector.pump(child, (stdin or "").encode(), deadline)
        if in_time:
            child.wait()
    finished = Finished(
        argv=tuple(str(arg) for arg in argv),
        returncode=child.returncode if child.returncode is not None else -signal.SIGKILL,
        stdout=collector.text("stdout"),
        stderr=collector.text("stderr"),
        seconds=time.monotonic() - start,
    )
    if not in_time:
        raise CommandTimeout(
            f"`{command_line(argv)}` did not end within {finished.seconds:.0f} s and was killed",
            details=_tail(finished),
            artefacts=log_path,
        )
    if check and finished.returncode != 0:
        error = _failure(finished, log_path)
        if explain is not None and isinstance(error, CommandFailed):
            raise explain(error) from error
        raise error
    return finished


def _failure(finished: Finished, log_path: Path | None) -> HarnessError:
    command = command_line(finished.argv)
    output = finished.stderr + finished.stdout
    if any(os.strerror(number) in output for number in (errno.ENOSPC, errno.EDQUOT)):
        return NoSpace(
            f"`{command}` ran out of disk space",
            hint="`klp-harness kernel prune` removes kernels that are not in use",
            details=_tail(finished),
            artefacts=log_path,
        )
    if finished.returncode < 0:
        number = -finished.returncode
        reason = f"was killed by {_signal_name(number)}"
    else:
        reason = f"ended with exit code {finished.returncode}"
    return CommandFailed(f"`{command}` {reason}", details=_tail(finished), artefacts=log_path)


def command_line(argv: Sequence[str | Path]) -> str:
    """Return a command in the form that can be pasted into a shell."""
    return shlex.join(str(arg) for arg in argv)


def child_environment() -> dict[str, str]:
    """Return the environment for a process of the harness that has to end when this one does."""
    return {**os.environ, _DIE_WITH_PARENT: "1"}


def obey_parent() -> None:
    """Have this process end with its parent, where the environment asks for that."""
    if os.environ.get(_DIE_WITH_PARENT):
        die_with_parent(os.getppid())


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent's thread dies.

    ``parent_pid`` is the parent as the caller knew it; when that has ended already, exit at once.
    Raises HarnessError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise HarnessError(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def outlive_parent() -> None:
    """Undo `die_with_parent`, for a process that has something to keep; raises HarnessError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0) != 0:
        raise HarnessError(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")


class _Collector:
    """Reads both outputs of a child in one loop, so that neither can fill up and block it."""

    def __init__(self, on_line: Callable[[str], None] | None, log: IO[bytes] | None) -> None:
        self._on_line = on_line
        self._log = log
        self._chunks: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._partial: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def text(self, stream: str) -> str:
        return b"".join(self._chunks[stream]).decode(errors="replace")

    def pump(self, child: Process[bytes], stdin: bytes, deadline: Deadline) -> bool:
        """Move data until the child and both outputs ended (True) or the deadline came (False).

        When the child ends, what it left running in its group is killed: such a process could hold
        an output open without end. The child is not reaped before, so its group's number is its
        own.
        """
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            ended = os.pidfd_open(child.pid)
            stack.callback(os.close, ended)
            selector.register(ended, selectors.EVENT_READ, "ended")
            for name in ("stdout", "stderr"):
                stream = getattr(child, name)
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, name)
            if child.stdin is not None:
                os.set_blocking(child.stdin.fileno(), False)
                selector.register(child.stdin, selectors.EVENT_WRITE, "stdin")
            pending = memoryview(stdin)
            while selector.get_map():
                if deadline.expired:
                    return False
                for key, _ in selector.select(min(deadline.remaining_s, 1.0)):
                    if key.data == "ended":
                        selector.unregister(ended)
                        _signal_group(child)
                    elif key.data == "stdin":
                        pending = self._feed(child, pending)
                        if not pending:
                            selector.unregister(key.fileobj)
                            assert child.stdin is not None
                            with contextlib.suppress(BrokenPipeError):
                                child.stdin.close()
                    elif not self._drain(key.data, key.fd):
                        selector.unregister(key.fileobj)
        return True

    @staticmethod
    def _feed(child: Process[bytes], pending: memoryview) -> memoryview:
        assert child.stdin is not None
        try:
            return pending[os.write(child.stdin.fileno(), pending[:65536]) :]
        except BlockingIOError:
            return pending
        except BrokenPipeError:
            return memoryview(b"")

    def _drain(self, name: str, fd: int) -> bool:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return True
        if self._log is not None:
            self._log.write(data)
        self._chunks[name].append(data)
        self._lines(name, data)
        return bool(data)

    def _lines(self, name: str, data: bytes) -> None:
        if self._on_line is None:
            return
        *lines, rest = (self._partial[name] + data).split(b"\n")
        if not data and rest:
            lines, rest = [*lines, rest], b""
        self._partial[name] = rest
        for line in lines:
            self._on_line(line.decode(errors="replace"))


def _signal_group(child: Process[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _tail(finished: Finished) -> tuple[str, ...]:
    lines = (finished.stdout + finished.stderr).splitlines()
    return tuple(lines[-_TAIL_LINES:])
