# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log of a guest since a mark."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError
from harness.livepatch.callbacks import CallbackEvent, read_callbacks
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.agent_protocol import KlogRecord
    from harness.livepatch.guest import Guest

_POLL_S = 0.1


class KernelLog:
    """Reads the kernel log since the mark, which is set at first when this is created."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._records: list[KlogRecord] = []
        self._next = 0
        self.mark()

    def mark(self) -> None:
        """Set the mark to the end of the log."""
        self._next = self._guest.klog(self._next).next
        self._records = []

    def since_mark(self) -> list[KlogRecord]:
        """Return the records since the mark.

        Raises HarnessError when the kernel overwrote records before they were read.
        """
        batch = self._guest.klog(self._next)
        if batch.lost:
            raise HarnessError(
                f"the kernel log lost {batch.lost} records before they were read",
                hint="boot with a larger log_buf_len, or read the log more often",
            )
        self._next = batch.next
        self._records += batch.records
        return list(self._records)

    def texts(self) -> list[str]:
        """Return the texts of the records since the mark."""
        return [record.text for record in self.since_mark()]

    def matching(self, pattern: str) -> list[KlogRecord]:
        """Return the records since the mark whose text has a match of the regular expression."""
        wanted = re.compile(pattern)
        return [record for record in self.since_mark() if wanted.search(record.text)]

    def callbacks(self) -> list[CallbackEvent]:
        """Return the callbacks that ran since the mark, in order."""
        return read_callbacks(self.since_mark())

    def wait_for(self, pattern: str, deadline: Deadline | None = None) -> KlogRecord:
        """Wait until a record since the mark matches, and return it.

        Raises TimeoutError, with the last lines that were logged instead.
        """
        deadline = deadline or scaled(self._guest, QUICK_S)
        found: list[KlogRecord] = []

        def look() -> bool:
            found[:] = self.matching(pattern)[:1]
            return bool(found)

        if not wait_until(look, deadline, interval_s=_POLL_S):
            last = [record.text for record in self._records[-10:]]
            end = "\n".join(["it ends with:", *last]) if last else "nothing was logged"
            raise TimeoutError(f"the kernel log has no line that matches {pattern!r}: {end}")
        return found[0]
