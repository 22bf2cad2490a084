# SPDX-License-Identifier: GPL-2.0-only
"""What a worker of a cluster keeps open from job to job: one run for each set of conditions."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A campaign whose machine is lost leaves templates behind: 256 MiB each.
_IDLE_S = 300.0


class _Closable(Protocol):
    def close(self) -> None:
        """End it."""


Conditions = TypeVar("Conditions")
Run = TypeVar("Run", bound=_Closable)


@dataclass
class _Open(Generic[Run]):
    run: Run
    users: int = 0
    last_used_s: float = 0.0


class OpenRuns(Generic[Conditions, Run]):
    """The runs of this process. Several threads may use it."""

    def __init__(self, open_run: Callable[[Conditions], Run]) -> None:
        """``open_run`` opens a run when there is none for its conditions."""
        self._open_run = open_run
        self._lock = threading.Lock()
        self._open: dict[Conditions, _Open[Run]] = {}
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def using(self, conditions: Conditions) -> Iterator[Run]:
        """Yield the run for these conditions; raises what opening it raises."""
        with self._lock:
            known = self._open.get(conditions)
            if known is None:
                known = self._open[conditions] = _Open(self._open_run(conditions))
            known.users += 1
        try:
            yield known.run
        finally:
            with self._lock:
                known.users -= 1
                known.last_used_s = time.monotonic()
                self._wake_later()

    def close_idle(self, idle_s: float = _IDLE_S) -> None:
        """End the runs that no job has used for so long."""
        with self._lock:
            now_s = time.monotonic()
            for conditions, known in list(self._open.items()):
                if not known.users and now_s - known.last_used_s >= idle_s:
                    del self._open[conditions]
                    known.run.close()
            if self._open:
                self._wake_later()

    def _wake_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_IDLE_S, self.close_idle)
        self._timer.daemon = True
        self._timer.start()
