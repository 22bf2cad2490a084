# SPDX-License-Identifier: GPL-2.0-only
"""The serial console: one reader owns it, logs every byte, and watches for splats."""

from __future__ import annotations

import socket
import threading
from io import FileIO
from typing import TYPE_CHECKING

import pexpect
from pexpect import fdpexpect

from harness.klog.splats import Splat, SplatDetector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.vm.guest.events import GuestEvents

_TAIL_LINES = 25
_READ_S = 0.5
_NOTHING = "(nothing was printed on the console since this guest started)"


SerialEnd = socket.socket | FileIO
"""The harness's end of a serial line: a socket, or a pipe, on which nobody can type."""


class Console:
    """Reads the console in a thread of its own until QEMU closes it or ``close`` is called."""

    def __init__(self, sock: SerialEnd, log_path: Path, events: GuestEvents) -> None:
        self.log_path = log_path
        self._sock = sock
        self._events = events
        self._log = log_path.open("w", encoding="utf-8", errors="replace", newline="")
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
        self._pieces: list[str] = []
        self._splats: list[Splat] = []
        self._closing = False
        self.ended = False
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return everything the guest has printed so far, with plain line ends."""
        with self._lock:
            joined = "".join(self._pieces)
            self._pieces = [joined]
        return joined

    def splats(self) -> tuple[Splat, ...]:
        """Return the splats so far; the last may not be printed in full yet."""
        with self._lock:
            return tuple(self._splats)

    def tail(self, lines: int = _TAIL_LINES) -> tuple[str, ...]:
        """Return the last lines, or one that says that nothing was printed."""
        return tuple(self.text().splitlines()[-lines:]) or (_NOTHING,)

    def contains(self, text: str) -> bool:
        """Return whether the guest has printed that text."""
        return text in self.text()

    def write(self, text: str) -> None:
        """Type on the console. Nothing happens when QEMU has ended."""
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
        self.ended = True
        self._take("", final=True)

    def _take(self, text: str, *, final: bool = False) -> None:
        self._log.write(text)
        self._log.flush()
        plain = text.replace("\r", "")
        with self._lock:
            self._pieces.append(plain)
            self._splats += self._detector.feed(plain)
            if final:
                self._splats += self._detector.finish()
        self._events.notify()
