# SPDX-License-Identifier: GPL-2.0-only
"""A command that goes on after it has ended: its exit code is known, and it still holds a guest.

QEMU dies with the process that started it, and that cannot be handed on. So the command runs in a
child from its beginning; what the shell started waits for it, passes signals on, and ends with its
exit code. If that child then has nothing to hold, it ends too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from typing import TYPE_CHECKING, NoReturn

from harness.vm.host.process import die_with_parent, outlive_parent

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_FORMAT = "i"
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_open: list[_Detachable] = []


class _Detachable:
    def __init__(self, pipe: int, holds: Callable[[], bool], hold: Callable[[], None]) -> None:
        self._pipe = pipe
        self._holds = holds
        self._hold = hold

    def finish(self, code: int) -> None:
        """Tell the parent the exit code; where there is something to hold, go on without it."""
        holds = self._holds()
        if holds:
            outlive_parent()
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
        os.write(self._pipe, struct.pack(_FORMAT, code))
        os.close(self._pipe)
        if holds:
            self._hold()


def begin(*, holds: Callable[[], bool], hold: Callable[[], None]) -> None:
    """Fork: the command goes on in the child. At its very end, `end` calls ``hold`` if it has to.

    To be called before the process has further threads.
    """
    parent = os.getpid()
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        _wait(child, reading)
    os.close(reading)
    die_with_parent(parent)
    _open.append(_Detachable(writing, holds, hold))


def end(code: int) -> None:
    """End the command of `begin`, if there is one; returns when what it held is gone."""
    if _open:
        _open.pop().finish(code)


def _wait(child: int, reading: int) -> NoReturn:
    """Wait for the command's exit code, and end with it."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    data = os.read(reading, struct.calcsize(_FORMAT))
    if data:
        os._exit(struct.unpack(_FORMAT, data)[0])
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)
