# SPDX-License-Identifier: GPL-2.0-only
"""Runs jobs of this process side by side, each in a thread; the caller waits for the results.

Not an executor of concurrent.futures: its threads outlive an interrupt, and with them the guests
that each has started. These threads end with the process, and a guest dies with its thread.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Job = TypeVar("Job")
Result = TypeVar("Result")

# How often the caller's thread wakes up, so that it sees Ctrl-C.
_WAKE_S = 0.25


def run_jobs(
    jobs: Iterable[Job], do: Callable[[Job], Result], *, at_a_time: int, name: str
) -> Iterator[Result]:
    """Do the jobs, so many at a time, and yield each result as soon as there is one.

    Jobs are taken in their order, each when a thread is free for it, so ``jobs`` may decide late;
    none of them is None. When a job raises, that is raised here; then, as when the caller stops, no
    further job begins, and those that have begun go on. ``name`` names the threads.
    """
    waiting = iter(jobs)
    lock = threading.Lock()
    stopped = threading.Event()
    ended: queue.SimpleQueue[tuple[Result] | BaseException | None] = queue.SimpleQueue()

    def take() -> Job | None:
        with lock:
            return None if stopped.is_set() else next(waiting, None)

    def work() -> None:
        try:
            while (job := take()) is not None:
                ended.put((do(job),))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            ended.put(error)
        else:
            ended.put(None)

    for number in range(at_a_time):
        threading.Thread(target=work, name=f"{name}-{number}", daemon=True).start()
    working = at_a_time
    try:
        while working:
            try:
                found = ended.get(timeout=_WAKE_S)
            except queue.Empty:
                continue
            if isinstance(found, BaseException):
                raise found
            if found is None:
                working -= 1
            else:
                yield found[0]
    finally:
        stopped.set()
