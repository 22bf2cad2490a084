# SPDX-License-Identifier: GPL-2.0-only
"""Records a timeline in the guest with the program klp-sampler."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import HarnessError, KlpError
from harness.livepatch.program_output import wait_success
from harness.livepatch.timeline import Timeline, is_ready, read_timeline
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.livepatch.guest import Guest, GuestProcess

_PROGRAM = "klp-sampler"
_INTERVAL_MS = 20


class Recorder:
    """A recording that runs. ``stop`` ends it and returns the timeline."""

    def __init__(self, guest: Guest, *, interval_ms: int = _INTERVAL_MS) -> None:
        """Start it and wait for the first complete sample. Raises HarnessError."""
        self._guest = guest
        self._process: GuestProcess = guest.spawn(_PROGRAM, str(interval_ms))
        self._lines: list[str] = []
        self._timeline: Timeline | None = None
        deadline = scaled(guest, QUICK_S)
        while not self._lines or not is_ready(self._lines[-1]):
            try:
                self._lines.append(self._process.next_line(deadline))
            except EOFError:
                raise HarnessError(
                    f"{_PROGRAM} ended at once, with code {self._process.wait(deadline)}"
                ) from None

    def stop(self) -> Timeline:
        """End the recording and return its timeline. Raises HarnessError if the sampler failed."""
        if self._timeline is None:
            deadline = scaled(self._guest, QUICK_S)
            self._process.close_stdin()
            self._lines += self._process.lines(deadline)
            wait_success(self._process, _PROGRAM, deadline)
            self._timeline = read_timeline(self._lines)
        return self._timeline

    def salvage(self) -> Timeline:
        """Return the timeline so far, even of a dead guest. Raises HarnessError without one."""
        with suppress(KlpError, OSError):
            self._lines += self._process.lines(Deadline.after(0.0))
        return read_timeline(self._lines)


@contextmanager
def recording(guest: Guest, *, interval_ms: int = _INTERVAL_MS) -> Iterator[Recorder]:
    """Record while the block runs; ``stop`` of the recorder returns the timeline."""
    recorder = Recorder(guest, interval_ms=interval_ms)
    try:
        yield recorder
    except BaseException:
        # The error of the block is the one to report, also when the guest has died.
        with suppress(KlpError, OSError, TimeoutError):
            recorder.stop()
        raise
    recorder.stop()
