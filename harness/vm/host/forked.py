# SPDX-License-Identifier: GPL-2.0-only
"""A copy of this process, which has imported what this one has, and works beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from harness.errors import HarnessError
from harness.vm.host.process import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@contextlib.contextmanager
def forked(work: Callable[[], object]) -> Iterator[None]:
    """Do ``work`` in a copy of this process, beside it and without input; kill the copy on leaving.

    The copy stays in our process group, so that Ctrl-C reaches its children; it has SIGINT blocked,
    and takes other signals as a new process does. It ends when this thread does, and after
    ``work``, without what Python does at an end. To be called while there are no other threads.
    Raises HarnessError when the host cannot start a process.
    """
    parent = os.getpid()
    _flush()
    # A handler of this process must not run in the copy.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        child = os.fork()
        if child == 0:
            _work_as_copy(work, parent, before)
    except OSError as error:
        raise HarnessError(f"cannot start a process: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _work_as_copy(work: Callable[[], object], parent: int, blocked: Iterable[int]) -> NoReturn:
    code = 1
    try:
        _take_signals_anew()
        signal.pthread_sigmask(signal.SIG_SETMASK, {*blocked, signal.SIGINT})
        die_with_parent(parent)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        work()
        _flush()
        code = 0
    except BaseException:  # noqa: BLE001 - it must not go on as what it is a copy of
        traceback.print_exc()
    finally:
        os._exit(code)


def _take_signals_anew() -> None:
    for number in signal.valid_signals():
        # One that is ignored stays so, as in a new process.
        if callable(signal.getsignal(number)):
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


def _flush() -> None:
    """Write out what Python still holds of the standard streams: once, not in each copy as well."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
