# SPDX-License-Identifier: GPL-2.0-only
"""The instructions that each task itself has executed, by the events of a guest with one CPU. Pure.

What an interrupt executes while the task is current is not the task's, and is left out: how many
interrupts there are depends on how busy the host is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.observer.shared_file import Kind

if TYPE_CHECKING:
    from harness.observer.shared_file import Event


@dataclass(frozen=True, kw_only=True)
class InterruptPoints:
    """Addresses: where interrupts begin, the ``iretq`` that ends them, and where tasks end."""

    begins: frozenset[int]
    end: int
    death: int


class TaskClock:
    """Follows events in their order. Context switches have to be among them."""

    def __init__(self, points: InterruptPoints) -> None:
        self._points = points
        self._own: Counter[int] = Counter()
        # An interrupt may end in a switch to another task; it goes on when its task does.
        self._depth: Counter[int] = Counter()
        self._last: int | None = None

    def at(self, event: Event) -> int:
        """Take the next event; return what its task had executed before it, from any beginning."""
        task, where = event.task, event.where
        if self._last is not None and not self._depth[task]:
            self._own[task] += event.clock - self._last
        self._last = event.clock
        if event.kind == Kind.POINT:
            if where in self._points.begins:
                self._depth[task] += 1
            elif where == self._points.end:
                # Not all that is left by iretq is an interrupt: some system calls are.
                self._depth[task] = max(0, self._depth[task] - 1)
            elif where == self._points.death:
                # A signal may end a task in an interrupt, and its memory is a new task's then.
                self._depth[task] = 0
        return self._own[task]
