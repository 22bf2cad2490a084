# SPDX-License-Identifier: GPL-2.0-only
"""Signals that end a command: at once before it has begun, by unwinding it, not after its end.

This is imported before all else, so it imports nothing that takes time.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType
    from typing import NoReturn
else:
    # What signal is made of: it is built in, so that no file is read while Ctrl-C has a traceback.
    import _signal as signal

_TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WORDS: dict[int, str] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "ended, as its terminal was closed",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGHUP. Unwinds as Ctrl-C does, so that guests and builds end."""

    number: int = signal.SIGTERM


class HungUp(Terminated):
    """SIGHUP: the terminal was closed, or the connection to it."""

    number = signal.SIGHUP


def end_at_once() -> None:
    """Make the signals end this process in a line, without any clean-up.

    While modules are imported there is nothing to clean up, and an exception may surface anywhere:
    Python prints one in a callback of the import system as a traceback, and goes on. A signal that
    is ignored stays so, as `nohup` wants it. bin/klp-harness has blocked Ctrl-C up to here.
    """
    for number in _TAKEN:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def unwind() -> None:
    """Have the signals unwind the stack from here on, where `end_at_once` has taken them."""
    for number in _TAKEN:
        if signal.getsignal(number) is _end:
            signal.signal(number, _raise)


def disregard() -> None:
    """Ignore the signals from here on, where they were taken: the command has ended."""
    for number in _TAKEN:
        if signal.getsignal(number) in (_end, _raise):
            signal.signal(number, signal.SIG_IGN)


def number_of(interrupt: KeyboardInterrupt) -> int:
    """Return the signal that an interrupt was."""
    return interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT


def sentence(number: int) -> str:
    """Return the line that says how a command ended, with its newline."""
    # The terminal shows ^C at the line's begin.
    begin = "\n" if number == signal.SIGINT else ""
    return f"{begin}klp-harness: {_WORDS[number]}\n"


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    try:  # noqa: SIM105 - contextlib takes longer to import than all that is here
        os.write(2, sentence(number).encode())
    except OSError:
        pass
    os._exit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    # Once is enough: a second one would end the tidying up that the first one began.
    signal.signal(number, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise HungUp if number == signal.SIGHUP else Terminated
