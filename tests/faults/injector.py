# SPDX-License-Identifier: GPL-2.0-only
"""Faults of the host at chosen calls, as SQLite's tests inject them.

While an `Injector` is active, each call of a fault point is counted: the system calls below that
concern files under one folder, and those that start processes. The n-th call fails; with ``lasts``
every later one of the same points fails too, as on a disk that stays full. Counting begins anew for
each run, so that n = 1, 2, 3 ... until a run passes without reaching n covers every call.
(https://www.sqlite.org/testing.html, "OOM Testing", "I/O Error Testing")
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import shutil
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import FrameType, TracebackType


class Point(StrEnum):
    """What can fail."""

    OPEN = "open for writing"
    READ = "open for reading"
    WRITE = "write"
    SYNC = "fsync"
    CLOSE = "close"
    RENAME = "rename"
    LINK = "link"
    MKDIR = "mkdir"
    UNLINK = "unlink"
    META = "chmod or utime"
    SPAWN = "spawn"
    PIPE = "pipe"
    DEADLINE = "deadline"


DISK = frozenset(
    {
        *(Point.OPEN, Point.WRITE, Point.SYNC, Point.CLOSE, Point.RENAME, Point.LINK),
        *(Point.MKDIR, Point.META),
    }
)
"""What a full disk, or one that fails, refuses."""

CALLS = frozenset(Point) - {Point.DEADLINE}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How calls fail: at these points, with this error."""

    name: str
    points: frozenset[Point]
    error: Callable[[], BaseException]
    lasts: bool = False

    def __str__(self) -> str:
        return self.name


def os_error(number: int) -> Callable[[], OSError]:
    """Return what makes the OSError of an errno, of the class that Python gives it."""
    return lambda: OSError(number, os.strerror(number))


FULL = Fault(name="disk full", points=DISK, error=os_error(errno.ENOSPC), lasts=True)
FULL_ONCE = Fault(name="no space once", points=DISK, error=os_error(errno.ENOSPC))
QUOTA = Fault(name="quota", points=DISK, error=os_error(errno.EDQUOT), lasts=True)
BROKEN = Fault(name="I/O error", points=DISK, error=os_error(errno.EIO))
UNREADABLE = Fault(name="unreadable", points=frozenset({Point.READ}), error=os_error(errno.EIO))
DENIED = Fault(
    name="denied",
    points=frozenset({Point.OPEN, Point.RENAME, Point.LINK, Point.MKDIR, Point.UNLINK, Point.META}),
    error=os_error(errno.EACCES),
)
NO_FORK = Fault(name="no fork", points=frozenset({Point.SPAWN}), error=os_error(errno.EAGAIN))
NO_PROGRAM = Fault(
    name="program gone", points=frozenset({Point.SPAWN}), error=os_error(errno.ENOENT)
)
NO_DESCRIPTORS = Fault(
    name="no descriptors",
    points=frozenset({Point.OPEN, Point.READ, Point.PIPE}),
    error=os_error(errno.EMFILE),
)
INTERRUPT = Fault(name="Ctrl-C", points=CALLS, error=KeyboardInterrupt)
LATE = Fault(name="late", points=frozenset({Point.DEADLINE}), error=TimeoutError, lasts=True)
ALL = (
    *(FULL, FULL_ONCE, QUOTA, BROKEN, UNREADABLE, DENIED, NO_FORK, NO_PROGRAM),
    *(NO_DESCRIPTORS, INTERRUPT, LATE),
)


@dataclass(kw_only=True)
class Call:
    """A counted call: its point, what it was about, and where it came from.

    ``in_removal``: it is a part of the removal of a folder, which cannot undo its own failure.
    """

    point: Point
    subject: str
    stack: tuple[traceback.FrameSummary, ...]
    in_removal: bool

    @property
    def place(self) -> tuple[str, ...]:
        """The way through the harness to this call, which other calls may share."""
        return (self.point, *(f"{frame.filename}:{frame.lineno}" for frame in self.stack))

    def __str__(self) -> str:
        last = self.stack[-1] if self.stack else None
        where = f" in {Path(last.filename).name}:{last.lineno}, {last.name}()" if last else ""
        return f"{self.point} of {self.subject}{where}"

    @property
    def trace(self) -> str:
        """The way to it, with the lines of the source."""
        return "".join(traceback.format_list(list(self.stack)))


@dataclass(kw_only=True)
class Injector:
    """Makes the ``nth`` call of the fault's points fail, below ``root``. 0 counts only.

    ``fired`` is the call that failed first, None when the run ended before it.
    """

    fault: Fault
    root: Path
    nth: int
    calls: list[Call] = field(default_factory=list)
    fired: Call | None = None

    def __post_init__(self) -> None:
        self._root = os.path.realpath(self.root)
        self._patch = pytest.MonkeyPatch()
        self._owned: set[int] = set()
        self._lock = threading.RLock()
        self._inside = threading.local()
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        _Patches(self).install(self._patch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._patch.undo()

    def concerns(self, path: object) -> bool:
        """Return whether a path, or a descriptor that was opened by one, is below the root."""
        if isinstance(path, int):
            return path in self._owned
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links stay
        return name == self._root or name.startswith(f"{self._root}/")

    def own(self, descriptor: int) -> None:
        """Remember a descriptor as one of a file below the root."""
        self._owned.add(descriptor)

    def disown(self, descriptor: int) -> None:
        """Forget a descriptor that is closed."""
        self._owned.discard(descriptor)

    def reach(self, point: Point, subject: object) -> None:
        """Count a call, and raise the fault's error when it is the one to fail."""
        if point not in self.fault.points or getattr(self._inside, "is_busy", False):
            return
        if getattr(_PAUSED, "is_paused", False):
            return
        self._inside.is_busy = True
        try:
            with self._lock:
                self._count(point, subject)
        finally:
            self._inside.is_busy = False

    def _count(self, point: Point, subject: object) -> None:
        stack, in_removal = _harness_frames()
        call = Call(point=point, subject=str(subject), stack=stack, in_removal=in_removal)
        self.calls.append(call)
        number = len(self.calls)
        if self.nth and (number == self.nth or (number > self.nth and self.fault.lasts)):
            self.fired = self.fired or call
            error = self.fault.error()
            if isinstance(error, OSError) and isinstance(subject, str | os.PathLike):
                error.filename = os.fspath(subject)
            raise error


_PAUSED = threading.local()


@contextlib.contextmanager
def unharmed() -> Iterator[None]:
    """Let nothing fail meanwhile, and count nothing: what a test itself reads."""
    before = getattr(_PAUSED, "is_paused", False)
    _PAUSED.is_paused = True
    try:
        yield
    finally:
        _PAUSED.is_paused = before


def _harness_frames() -> tuple[tuple[traceback.FrameSummary, ...], bool]:
    """Return the frames of the harness and of these tests, and whether a folder is removed."""
    # Without the text of the lines, which is read when it is shown: this is done for every call.
    found = []
    in_removal = False
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        code = frame.f_code
        if "/harness/" in code.co_filename or "/tests/faults/" in code.co_filename:
            found.append(
                traceback.FrameSummary(
                    code.co_filename, frame.f_lineno, code.co_name, lookup_line=False
                )
            )
        in_removal |= code.co_filename == shutil.__file__ and "rmtree" in code.co_name
        frame = frame.f_back
    return tuple(reversed(found)), in_removal


class _Raw(io.FileIO):
    """A file whose writes and closing are counted."""

    def __init__(
        self, injector: Injector, file: Any, mode: str, opener: Any, closefd: bool
    ) -> None:
        self._injector = injector
        self._subject = file
        super().__init__(file, mode, closefd=closefd, opener=opener)
        injector.own(self.fileno())

    def write(self, data: Any) -> int:
        self._injector.reach(Point.WRITE, self._subject)
        return int(super().write(data) or 0)

    def close(self) -> None:
        if self.closed:
            return
        self._injector.disown(self.fileno())
        # close(2) closes also when it reports an error.
        super().close()
        self._injector.reach(Point.CLOSE, self._subject)


class _Patches:
    """The replaced functions of one injector."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector

    def install(self, patch: pytest.MonkeyPatch) -> None:
        opened = self._open(io.open)
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        patch.setattr(os, "open", self._os_open(os.open))
        patch.setattr(os, "close", self._os_close(os.close))
        for name, point in (
            *(("mkdir", Point.MKDIR), ("unlink", Point.UNLINK), ("remove", Point.UNLINK)),
            *(("rmdir", Point.UNLINK), ("chmod", Point.META), ("utime", Point.META)),
            *(("write", Point.WRITE), ("truncate", Point.WRITE)),
            *(("ftruncate", Point.WRITE), ("readlink", Point.READ), ("scandir", Point.READ)),
        ):
            patch.setattr(os, name, self._of_one(point, getattr(os, name)))
        for name, point in (
            *(("rename", Point.RENAME), ("replace", Point.RENAME)),
            *(("link", Point.LINK), ("symlink", Point.LINK)),
        ):
            patch.setattr(os, name, self._of_two(point, getattr(os, name)))
        for name, point in (("pidfd_open", Point.PIPE), ("pipe", Point.PIPE)):
            patch.setattr(os, name, self._always(point, getattr(os, name)))
        # To wait for the disk itself would take most of the time, and tell nothing.
        patch.setattr(os, "fsync", self._of_one(Point.SYNC, lambda _: None))
        fork_exec = subprocess._fork_exec  # type: ignore[attr-defined]
        patch.setattr(subprocess, "_fork_exec", self._always(Point.SPAWN, fork_exec))
        self._expire(patch)

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            injector = self._injector
            arguments = (file, mode, buffering, encoding, errors, newline, closefd, opener)
            if not injector.concerns(file):
                return real(*arguments)
            writes = bool({"w", "a", "x", "+"} & set(mode))
            if not isinstance(file, int):
                injector.reach(Point.OPEN if writes else Point.READ, file)
            if not writes or "+" in mode:
                return real(*arguments)
            letters = next(letter for letter in mode if letter in "wax")
            raw = _Raw(injector, file, f"{letters}b", opener, closefd)
            if buffering == 0:
                return raw
            buffered = io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            text = io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)
            text.mode = mode  # type: ignore[misc]
            return text

        return opened

    def _os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
            injector = self._injector
            concerned = named.get("dir_fd") is None and injector.concerns(path)
            if concerned:
                writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                injector.reach(Point.OPEN if writes else Point.READ, path)
            descriptor = real(path, flags, *arguments, **named)
            if concerned:
                injector.own(descriptor)
            return descriptor

        return opened

    def _os_close(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def close(descriptor: int) -> None:
            self._injector.disown(descriptor)
            real(descriptor)

        return close

    def _of_one(self, point: Point, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(subject: Any = ".", *arguments: Any, **named: Any) -> Any:
            if self._injector.concerns(subject):
                self._injector.reach(point, subject)
            return real(subject, *arguments, **named)

        return call

    def _of_two(self, point: Point, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, *arguments: Any, **named: Any) -> Any:
            if self._injector.concerns(target):
                self._injector.reach(point, target)
            return real(source, target, *arguments, **named)

        return call

    def _always(self, point: Point, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._injector.reach(point, "a process" if point is Point.SPAWN else real.__name__)
            return real(*arguments, **named)

        return call

    def _expire(self, patch: pytest.MonkeyPatch) -> None:
        """Let the n-th look at a deadline find it expired, and all after it."""
        from harness.deadline import Deadline

        remaining = Deadline.remaining_s.fget  # type: ignore[attr-defined]

        def remaining_s(deadline: Deadline) -> float:
            try:
                self._injector.reach(Point.DEADLINE, "a deadline")
            except TimeoutError:
                return 0.0
            return float(remaining(deadline))

        patch.setattr(Deadline, "remaining_s", property(remaining_s))
        patch.setattr(Deadline, "expired", property(lambda deadline: deadline.remaining_s <= 0.0))


def open_descriptors() -> dict[int, str]:
    """Return what this process has open: descriptor to what it is."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[int(path.name)] = str(path.readlink())
    return found


def children() -> list[int]:
    """Return the processes that this one started and has not reaped."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in path.read_text().split()]
    return found


def leftovers(root: Path, patterns: Collection[str]) -> list[str]:
    """Return files below a folder whose names match, for example ``.partial-*``."""
    return sorted(
        str(path.relative_to(root)) for pattern in patterns for path in root.rglob(pattern)
    )
