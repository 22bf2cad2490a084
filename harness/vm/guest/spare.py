# SPDX-License-Identifier: GPL-2.0-only
"""One spare guest: while a guest is used, QEMU for the next one starts and loads its state."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from harness.errors import KlpError
from harness.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.vm.guest.snapshot import Clone


class SpareGuest:
    """Keeps at most one stopped clone, of the template that was used last.

    It is made by one thread that lives as long as this object: the kernel kills a child when the
    thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._kept: tuple[str, Future[Clone]] | None = None

    def take(self, key: str) -> Clone | None:
        """Return the clone of that template if there is one that can be used."""
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                return None
            future = self._kept[1]
            self._kept = None
        try:
            clone = future.result()
            clone.check()
        except KlpError as error:
            LOGGER.info("the spare guest cannot be used, starting another: %s", error)
            _discard(future)
            return None
        return clone

    def prepare(self, key: str, make: Callable[[], Clone]) -> None:
        """Start a clone of that template; a spare one of another template is removed."""
        with self._lock:
            if self._kept is not None:
                if self._kept[0] == key:
                    return
                _discard(self._kept[1])
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="spare")
            self._kept = key, self._thread.submit(make)

    def close(self) -> None:
        """Remove the spare guest. Guests taken from here must have ended."""
        with self._lock:
            if self._kept is not None:
                _discard(self._kept[1])
                self._kept = None
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None


def _discard(future: Future[Clone]) -> None:
    if future.cancel():
        return
    try:
        clone = future.result()
    except KlpError as error:
        LOGGER.debug("the spare guest could not be made: %s", error)
        return
    clone.close()
    shutil.rmtree(clone.folder, ignore_errors=True)
