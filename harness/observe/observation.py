# SPDX-License-Identifier: GPL-2.0-only
"""Records a guest's tasks and its kernel log for a while, for the fields of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError, KlpError
from harness.livepatch.callbacks import read_callbacks
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.recorder import Recorder
from harness.livepatch.transition_log import (
    is_of_attempt,
    log_attempts,
    read_attempts,
    read_measures,
)
from harness.log import LOGGER
from harness.observe.as_results import (
    attempts,
    callbacks,
    measure_marks,
    phases,
    seconds,
    task_histories,
    transition_marks,
)
from harness.report.run_results import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.agent_protocol import KlogRecord
    from harness.livepatch.guest import Guest
    from harness.livepatch.timeline import Timeline

_INTERVAL_MS = 10
# What the harness itself writes to the kernel log, to find its place again.
_OWN = "klp-harness: "


class Observation:
    """A recording that has begun. ``what`` names it in the log of the harness."""

    def __init__(self, guest: Guest, what: str) -> None:
        """Begin. Raises HarnessError, and KernelVerdict when the guest dies."""
        self._what = what
        self._logged = log_attempts(guest)
        self._log = KernelLog(guest)
        self._recorder = Recorder(guest, interval_ms=_INTERVAL_MS)

    def result_fields(
        self, *, patch: str | None = None, marks: Sequence[tuple[int, str]] = ()
    ) -> dict[str, object]:
        """End it, and return the fields of a RunResult that it knows of one patch, or of all.

        ``marks`` are moments of the guest's monotonic clock, in microseconds, with their labels. Of
        a guest that died, the fields have what was recorded until then.
        """
        timeline = self._timeline()
        records = self._records()
        fields: dict[str, object] = {
            "log": tuple(_log_line(record) for record in records if _is_of_kernel(record))
        }
        if timeline is None:
            return fields
        found = (
            *transition_marks(timeline, patch),
            *measure_marks(read_measures(records), timeline),
            *(Mark(at_s=seconds(t_us, timeline), what=what) for t_us, what in marks),
        )
        return fields | {
            "phases": phases(timeline, patch),
            "marks": tuple(sorted(found, key=lambda mark: mark.at_s)),
            "tasks": task_histories(timeline),
            "callbacks": callbacks(read_callbacks(records), timeline),
            "attempts": attempts(read_attempts(records), timeline) if self._logged else None,
        }

    def _timeline(self) -> Timeline | None:
        try:
            return self._recorder.stop()
        except (KlpError, OSError):
            LOGGER.debug("the recording of %s ended early", self._what)
        try:
            return self._recorder.salvage()
        except HarnessError:
            return None

    def _records(self) -> Sequence[KlogRecord]:
        """Return the kernel's messages; a dead guest has none to give, its console log has."""
        try:
            return self._log.since_mark()
        except (KlpError, OSError):
            return ()


def _is_of_kernel(record: KlogRecord) -> bool:
    """Whether the kernel logs the line also without the harness."""
    return not record.text.startswith(_OWN) and not is_of_attempt(record.text)


def _log_line(record: KlogRecord) -> str:
    return f"[{record.us / 1e6:12.6f}] {record.text}"
