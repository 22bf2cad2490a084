# SPDX-License-Identifier: GPL-2.0-only
"""A lock file in a folder, held by each process that uses the folder.

The lock is flock(2)'s, which ends with its process: a folder that nobody holds was left by one that
was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def hold(lock: Path) -> int | None:
    """Hold the lock, beside others, until the descriptor that is returned is closed.

    None when somebody has removed the folder meanwhile. Raises OSError.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(descriptor)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextlib.contextmanager
def nobody_holds(lock: Path) -> Iterator[bool]:
    """Say whether nobody holds that lock; while this lasts, nobody begins to. Raises OSError."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
