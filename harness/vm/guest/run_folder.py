# SPDX-License-Identifier: GPL-2.0-only
"""The private folder of a run: whose it is, who still uses it, and what a dead run has left.

Each process of a run holds a shared lock (flock(2), which ends with its process) on a file in the
folder. A folder that nobody holds was left by a run that was killed: its keys, initrd and templates
are removed by the next run, and the logs of its guests, which may say why, when they are old.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING, Self

from harness.errors import HarnessError, NoSpace, UsageError
from harness.log import LOGGER
from harness.vm.host.held import hold, nobody_holds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "in-use"
GUESTS = "guests"
"""Below it are the folders with the logs of a run's guests."""

FETCHED = "fetched"
"""Below it a worker of a cluster names the files that it got."""

KEPT_NOTE = "kept.json"
"""Describes the guest that is kept, in the folder of one (harness.vm.guest.kept)."""

EVIDENCE_DAYS = 30.0
_DAY_S = 86400.0
# What a run makes for itself, and nobody reads after its end.
_KEY = "client_key"
_SECRETS = ("host_key", _KEY, "keys.json", "lock", "initrd", "initrd-*", KEPT_NOTE)
_SECRETS_OF_KEPT = ("ssh_config", "known_hosts", "control", "gdb")
_FOLDERS = ("templates", "kernels-*", FETCHED, "modules")


class RunFolder:
    """A folder that this process uses, from ``claim`` to ``release``."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        """End the use; the folder stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def claim(path: Path) -> RunFolder:
    """Make a folder that this user alone can enter, or take one of this user, and hold it.

    Raises UsageError for one that somebody else made or could have filled, NoSpace, HarnessError.
    """
    with writing(path):
        while True:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            _require_own(path)
            held = hold(path / LOCK)
            if held is not None:
                return RunFolder(path, held)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise NoSpace, or HarnessError, for an OSError while files of a run are written."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else HarnessError
        raise kind(
            f"cannot write to the folder of this run, {folder}: {error.strerror}",
            hint="make room there, or set KLP_HARNESS_RUNS to a folder that can be written",
        ) from error


def sweep(root: Path) -> None:
    """Remove what runs that are dead left below ``root``: all but logs, and logs that are old.

    What cannot be removed stays; another user's folders are not touched.
    """
    try:
        folders = list(root.iterdir())
    except OSError:
        return
    for folder in folders:
        try:
            if (folder / LOCK).exists():
                _sweep_one(folder)
            elif (folder / _KEY).exists() and _age_s(folder / _KEY) > _DAY_S:
                strip(folder)  # of a klp-harness that held no lock
        except OSError as error:
            LOGGER.debug("cannot remove what %s holds: %s", folder, error)


def strip(folder: Path) -> None:
    """Remove what a run made for itself: keys, initrd, templates. The guests' logs stay."""
    for pattern in (*_SECRETS, *_SECRETS_OF_KEPT):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    for pattern in _FOLDERS:
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def _sweep_one(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    with nobody_holds(folder / LOCK) as unused:
        if not unused:
            return
        age_s = _age_s(folder / LOCK)
        strip(folder)
        guests = folder / GUESTS
        is_empty = not guests.is_dir() or not any(guests.iterdir())
        others = [path for path in folder.iterdir() if path.name not in (LOCK, GUESTS)]
        if (is_empty and not others) or age_s > EVIDENCE_DAYS * _DAY_S:
            shutil.rmtree(folder, ignore_errors=True)


def _age_s(path: Path) -> float:
    return time.time() - path.lstat().st_mtime


def _require_own(path: Path) -> None:
    """Raise UsageError unless the folder is this user's, and only this user can write there."""
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if status.st_uid == os.geteuid() and not status.st_mode & 0o022:
            os.fchmod(descriptor, 0o700)
            return
        why = "others can write there" if status.st_uid == os.geteuid() else "it is another user's"
    except NotADirectoryError:
        # O_DIRECTORY is looked at before O_NOFOLLOW.
        why = "it is a symbolic link" if path.is_symlink() else "it is no folder"
    finally:
        if descriptor is not None:
            os.close(descriptor)
    raise UsageError(
        f"the folder {path} cannot be used for this run: {why}",
        hint="name a folder that does not exist, or one of your own with mode 0700",
    )
