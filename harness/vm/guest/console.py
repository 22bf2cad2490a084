# SPDX-License-Identifier: GPL-2.0-only
"""The serial console: one reader owns it, logs every byte, and watches for splats.

The reader goes on whatever happens to its log: QEMU's serial line would block the guest, and no
splat would be seen. What it could not do is kept, and makes the log incomplete.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections import deque
from io import FileIO
from typing import TYPE_CHECKING

import pexpect
from pexpect import fdpexpect

from harness.errors import HarnessError, LogIncomplete, NoSpace
from harness.klog.splats import Splat, SplatDetector
from harness.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.vm.guest.events import GuestEvents

_TAIL_LINES = 25
_READ_S = 0.5
_LINE_CHARS = 1000
_NOTHING = "(nothing was printed on the console since this guest started)"
# Characters of the console that are kept in memory; all of them are in the log.
KEPT = 1 << 20
_MOST_SPLATS = 1000


SerialEnd = socket.socket | FileIO
"""The harness's end of a serial line: a socket, or a pipe, on which nobody can type."""


class Console:
    """Reads the console in a thread of its own until QEMU closes it or ``close`` is called."""

    def __init__(self, sock: SerialEnd, log_path: Path, events: GuestEvents) -> None:
        self.log_path = log_path
        self._sock = sock
        self._events = events
        self._log = _Log(log_path)
        # poll(2), since select(2) takes no descriptor above 1023.
        self._child = fdpexpect.fdspawn(
            sock.fileno(),
            timeout=_READ_S,
            encoding="utf-8",
            codec_errors="replace",
            use_poll=True,
        )
        self._detector = SplatDetector()
        self._lock = threading.Lock()
        self._kept: deque[str] = deque()
        self._kept_size = 0
        self._size = 0
        self._sought: dict[str, str] = {}
        self._found: set[str] = set()
        self._splats: list[Splat] = []
        self._more_splats = 0
        self._failure: BaseException | None = None
        self._closing = False
        self.ended = False
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """How many characters the guest has printed so far, without carriage returns."""
        return self._size

    def text(self, since: int = 0) -> str:
        """Return what the guest has printed since it had printed so many characters.

        Line ends are plain. Not more than the last `KEPT` characters or so; the log has all.
        """
        with self._lock:
            joined = "".join(self._kept)
            self._kept = deque([joined])
            gone = self._size - len(joined)
        return joined[max(0, since - gone) :]

    def splats(self) -> tuple[Splat, ...]:
        """Return the splats so far; the last may not be printed in full yet."""
        with self._lock:
            return tuple(self._splats)

    def tail(self, lines: int = _TAIL_LINES) -> tuple[str, ...]:
        """Return the last lines, or one that says that nothing was printed."""
        last = self.text().splitlines()[-lines:]
        return tuple(line[:_LINE_CHARS] for line in last) or (_NOTHING,)

    def contains(self, text: str) -> bool:
        """Return whether the guest has printed that text, since this was first asked or before.

        The reader looks for it from then on, each piece once: asking again costs nothing.
        """
        if text not in self._sought and text not in self._found:
            with self._lock:
                joined = "".join(self._kept)
                if text in joined:
                    self._found.add(text)
                else:
                    self._sought[text] = joined[len(joined) - len(text) + 1 :] if text[1:] else ""
        return text in self._found

    def problem(self) -> HarnessError | None:
        """Return why nothing can be said about the log any more, None while it is read and kept."""
        if self._failure is not None:
            return HarnessError(
                f"the reader of the guest's console failed: {self._failure!r}",
                hint="no splat can be seen any more; please report this",
            )
        lost = self._log.failure
        if lost is not None:
            kind = NoSpace if lost.errno in (errno.ENOSPC, errno.EDQUOT) else LogIncomplete
            return kind(
                f"the guest's console cannot be written to {self.log_path}: {lost.strerror}",
                hint="make room there, or set KLP_HARNESS_RUNS to another folder, and run again",
            )
        return None

    def incomplete(self) -> HarnessError | None:
        """Return why the log cannot be called clean: a part was not read, written or looked at.

        That the kernel dropped messages is one reason: it had no time to print them.
        """
        problem = self.problem()
        if problem is not None:
            return problem
        if self._detector.dropped:
            return LogIncomplete(
                f"the kernel log lost {self._detector.dropped} messages before they reached the "
                "console: it cannot be checked",
                hint="something prints faster than the console takes it; have it print less",
            )
        if self._more_splats:
            return LogIncomplete(
                f"the kernel log has {self._more_splats} splats more than the {_MOST_SPLATS} that "
                "were looked at",
                hint="console.log has all of it",
            )
        return None

    def write(self, text: str) -> None:
        """Type on the console. Nothing happens when QEMU has ended."""
        with contextlib.suppress(OSError):
            if not self.ended:
                self._child.send(text)

    def close(self, *, drain: Callable[[], bool] = lambda: True) -> None:
        """Stop reading when ``drain`` returns True, and close log and socket."""
        if drain():
            self._closing = True
        self._thread.join()
        self._log.close()
        self._sock.close()

    def _read(self) -> None:
        while not self._closing:
            try:
                text = self._child.read_nonblocking(size=65536, timeout=_READ_S)
            except pexpect.TIMEOUT:
                continue
            except (pexpect.EOF, OSError):
                break
            self._take(text)
        self._take("", final=True)
        self.ended = True
        self._events.notify()

    def _take(self, text: str, *, final: bool = False) -> None:
        self._log.write(text)
        plain = text.replace("\r", "")
        try:
            self._look_at(plain, final=final)
        except Exception as error:  # noqa: BLE001 - `problem` has it; the reader must go on
            LOGGER.debug("the reader of the console failed", exc_info=True)
            self._failure = self._failure or error
        self._events.notify()

    def _look_at(self, plain: str, *, final: bool) -> None:
        with self._lock:
            self._keep(plain)
            for text, before in list(self._sought.items()):
                joined = before + plain
                if text in joined:
                    self._found.add(text)
                    del self._sought[text]
                elif text[1:]:
                    self._sought[text] = joined[1 - len(text) :]
            found = self._detector.feed(plain)
            if final:
                found += self._detector.finish()
            room = _MOST_SPLATS - len(self._splats)
            self._splats += found[:room]
            self._more_splats += len(found[room:])

    def _keep(self, plain: str) -> None:
        self._kept.append(plain)
        self._size += len(plain)
        self._kept_size += len(plain)
        while len(self._kept) > 1 and self._kept_size - len(self._kept[0]) >= KEPT:
            self._kept_size -= len(self._kept.popleft())


class _Log:
    """The log file. A write that fails is kept as ``failure``, and the next one is tried."""

    def __init__(self, path: Path) -> None:
        self.failure: OSError | None = None
        self._lost = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, text: str) -> None:
        data = text.encode(errors="replace")
        if self._lost and data:
            note = f"\n(klp-harness: {self._lost} bytes could not be written here)\n"
            data = note.encode() + data
        try:
            while data:
                data = data[os.write(self._file, data) :]
            self._lost = 0
        except OSError as error:
            self.failure = self.failure or error
            self._lost += len(data)

    def close(self) -> None:
        os.close(self._file)
