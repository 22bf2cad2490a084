# SPDX-License-Identifier: GPL-2.0-only
"""Temporary folders, which are removed at their end, or by the next run after a kill -9."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.log import LOGGER
from harness.vm.host.held import hold, nobody_holds

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGINS = "klp-"
_LOCK = ".klp-harness-in-use"


@contextlib.contextmanager
def temporary_folder(what: str) -> Iterator[Path]:
    """Give a temporary folder, which is removed at the end. Its name says ``what`` it is for.

    It has a hidden lock file. Raises HarnessError where there is no place for one.
    """
    with contextlib.ExitStack() as stack:
        try:
            held = None
            while held is None:
                made = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{_BEGINS}{what}-"))
                held = hold(Path(made, _LOCK))
        except OSError as error:
            raise HarnessError(
                f"no temporary folder can be made: {error.strerror}",
                hint="set TMPDIR to a folder that this user can write to",
            ) from error
        stack.callback(os.close, held)
        yield Path(made)


def sweep_temporary() -> None:
    """Remove the temporary folders of processes of this user that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_BEGINS}*/{_LOCK}"):
        folder = lock.parent
        try:
            if folder.lstat().st_uid != os.geteuid():
                continue
            with nobody_holds(lock) as unused:
                if unused:
                    shutil.rmtree(folder)  # which refuses a link
        except OSError as error:
            LOGGER.debug("cannot remove %s: %s", folder, error)
