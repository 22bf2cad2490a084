# SPDX-License-Identifier: GPL-2.0-only
"""Locks between processes; files that are replaced, and folders that are removed, as a whole."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.deadline import Deadline

TRASH = ".trash-"
"""Begins the name of a folder that is being removed; `harness.vm.host.cache` removes leftovers."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOCK_POLL_S = 0.1


def read_text(path: Path) -> str | None:
    """Return a file's text without white space at its ends, None when it cannot be read.

    What is no UTF-8 becomes replacement characters.
    """
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def boot_id() -> str:
    """Return what names this boot of the host; without one, something that nothing equals."""
    return read_text(BOOT_ID) or f"unknown {time.monotonic()}"


def replace_text(path: Path, text: str) -> None:
    """Write a file that only this user can read, so that a reader sees all of it or the old one.

    Raises OSError.
    """
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def remove_folder(path: Path) -> None:
    """Remove a folder. It is renamed first, so that no reader finds a part of it."""
    trash = path.with_name(f"{TRASH}{path.name}~{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


@contextlib.contextmanager
def locked(
    path: Path,
    deadline: Deadline,
    *,
    busy: Callable[[], str],
    on_wait: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold a lock file; when another process has it, call ``on_wait`` once and wait.

    ``busy`` returns in words what the other process does. Raises HarnessError, which quotes it,
    when the lock cannot be had before the deadline.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is not None:
            on_wait()
        try:
            lock.acquire(timeout=deadline.remaining_s, poll_interval=_LOCK_POLL_S)
        except Timeout:
            raise HarnessError(
                f"{busy()} and time is up", hint="wait for it, or end it, and try again"
            ) from None
    try:
        yield
    finally:
        lock.release()


def odd_files(tree: Path) -> Iterator[Path]:
    """Yield what is neither file, folder nor link below a folder: root's tar makes device nodes."""
    pending = [str(tree)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for each in entries:
                if each.is_dir(follow_symlinks=False):
                    pending.append(each.path)
                elif not each.is_file(follow_symlinks=False) and not each.is_symlink():
                    yield Path(each.path)
