# SPDX-License-Identifier: GPL-2.0-only
"""A copy of this process, which has imported what this one has, and works beside it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.vm.host.process import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@contextlib.contextmanager
def forked(work: Callable[[], object]) -> Iterator[None]:
    """Do ``work`` in a copy of this process, beside it and without input; kill the copy on leaving.

    The copy stays in our process group, so that Ctrl-C reaches its children; it has SIGINT blocked,
    and takes other signals as a new process does. It ends when this thread does, and after
    ``work``, without what is registered to be done at an end of Python. To be called while there
    are no other threads. Raises HarnessError when the host cannot start a process.
    """
    # A handler of this process must not run in the copy.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    copy = multiprocessing.get_context("fork").Process(
        target=_work_as_copy, args=(work, os.getpid(), before)
    )
    try:
        copy.start()
    except OSError as error:
        raise HarnessError(f"cannot start a process: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        copy.kill()
        copy.join()


def _work_as_copy(work: Callable[[], object], parent: int, blocked: Iterable[int]) -> None:
    for number in signal.valid_signals():
        # One that is ignored stays so, as in a new process.
        if callable(signal.getsignal(number)):
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, {*blocked, signal.SIGINT})
    die_with_parent(parent)
    work()
