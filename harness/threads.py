# SPDX-License-Identifier: GPL-2.0-only
"""Threads that take jobs until there are none, for whoever waits for what comes of them.

Not an executor of concurrent.futures: its threads outlive an interrupt, and with them the guests
that each has started. These end with the process, and a guest dies with its thread.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Job = TypeVar("Job")
Result = TypeVar("Result")

# With a timeout, so that Ctrl-C is seen.
_LOOK_S = 0.25


def run_jobs(
    count: int, name: str, take: Callable[[], Job | None], do: Callable[[Job], Result]
) -> Iterator[Result]:
    """Yield what comes of each job, when it does; ``take`` returns None when there are no more.

    Raises what one of the threads raised first; the others go on.
    """
    ended: queue.SimpleQueue[tuple[Result] | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            while (job := take()) is not None:
                ended.put((do(job),))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            ended.put(error)
        else:
            ended.put(None)

    for number in range(count):
        threading.Thread(target=work, name=f"{name}-{number}", daemon=True).start()
    working = count
    while working:
        try:
            said = ended.get(timeout=_LOOK_S)
        except queue.Empty:
            continue
        if isinstance(said, BaseException):
            raise said
        if said is None:
            working -= 1
        else:
            yield said[0]
