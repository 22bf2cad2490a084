# SPDX-License-Identifier: GPL-2.0-only
"""The workers of a sweep: processes that run tests, started when needed, ended when they hang."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from pydantic import TypeAdapter, ValidationError

from harness.errors import HarnessError
from harness.tools.mutants.sweep.messages import Done, Job, Ran, Ready
from harness.vm.host.process import STDOUT, child_environment, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_START_S = 300.0
_ANY: TypeAdapter[Ready | Ran | Done] = TypeAdapter(Ready | Ran | Done)
_PIECE = 65536
_LAST_LINES = 5
_WAKE_S = 0.5


class OutOfTime(Exception):
    """A worker has not answered in time. It is ended, and so are its guests."""


class WorkerLost(Exception):
    """A worker has ended by itself; the text is the end of what it printed."""


class RunsTests(Protocol):
    """What runs the tests of a sweep. Several threads may use it at once."""

    def tests(self) -> tuple[str, ...]:
        """Return the names of all tests."""

    def run(self, job: Job, *, limit_s: Callable[[str], float]) -> Iterator[Ran]:
        """Yield how each test of a job ends, of which ``limit_s`` gives the seconds it may take."""


class Workers:
    """So many workers at a time, of one folder. Several threads may use them at once."""

    def __init__(self, words: Sequence[str], folder: Path, *, guests: int) -> None:
        """``words`` are pytest's; ``folder`` is that of the run that the guests belong to."""
        self._words = tuple(words)
        self._folder = folder
        self._guests = guests
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        with self._lock:
            everyone, self._all, self._idle = self._all, [], []
        for worker in everyone:
            worker.close()

    def tests(self) -> tuple[str, ...]:
        """Return the names of all tests that the workers have. Raises HarnessError."""
        with self._borrowed() as worker:
            return worker.tests

    def run(
        self, job: Job, *, limit_s: Callable[[str], float], whole_s: float = float("inf")
    ) -> Iterator[Ran]:
        """Yield how each test of a job ends.

        ``limit_s`` gives the seconds that a test may take, ``whole_s`` those of the whole job.
        Raises OutOfTime and WorkerLost after what came before; HarnessError when none starts.
        """
        end_s = time.monotonic() + whole_s
        with self._borrowed() as worker:
            worker.send(job)
            for test in job.tests:
                left_s = min(limit_s(test), end_s - time.monotonic())
                message = worker.receive(left_s)
                if not isinstance(message, Ran):
                    return
                yield message
            worker.receive(_START_S)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[_Worker]:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker(self._words, self._folder, self._guests, self._stopped)
            with self._lock:
                self._all.append(worker)
            worker.start()
        try:
            yield worker
        except BaseException:
            # It may still be at work: its next answer would be of another job.
            with self._lock:
                if worker in self._all:
                    self._all.remove(worker)
            worker.close()
            raise
        with self._lock:
            self._idle.append(worker)


@dataclass
class _Worker:
    words: tuple[str, ...]
    folder: Path
    guests: int
    stopped: threading.Event
    tests: tuple[str, ...] = ()
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _buffer: bytes = b""
    _jobs: int = -1
    _answers: int = -1
    _ended: threading.Event = field(default_factory=threading.Event)
    _log: Path | None = None

    def start(self) -> None:
        """Start it, in a thread that lives as long: the child dies with its parent's thread."""
        begun = threading.Event()
        failed: list[BaseException] = []
        taken, self._jobs = os.pipe()
        self._answers, given = os.pipe()
        self._log = self.folder / f"worker-{id(self)}.log"

        def work() -> None:
            try:
                with (
                    self._log.open("wb") as log,  # type: ignore[union-attr]
                    spawn(
                        [
                            *(sys.executable, "-m", "harness.tools.mutants.sweep.worker"),
                            *(str(taken), str(given), str(self.folder), str(self.guests)),
                            *self.words,
                        ],
                        stdout=log,
                        stderr=STDOUT,
                        env=child_environment(),
                        pass_fds=(taken, given),
                    ),
                ):
                    os.close(taken)
                    os.close(given)
                    begun.set()
                    self._ended.wait()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                failed.append(error)
                begun.set()

        self._thread = threading.Thread(target=work, name="sweep-worker", daemon=True)
        self._thread.start()
        begun.wait()
        if failed:
            raise failed[0]
        message = self.receive(_START_S)
        if not isinstance(message, Ready) or message.failed:
            why = message.failed if isinstance(message, Ready) else "it has not begun"
            raise HarnessError(
                f"the tests cannot be collected: {why}", details=(self.last_lines(),)
            )
        self.tests = message.tests

    def send(self, job: Job) -> None:
        try:
            os.write(self._jobs, job.model_dump_json().encode() + b"\n")
        except BrokenPipeError as error:
            raise WorkerLost(self.last_lines()) from error

    def receive(self, limit_s: float) -> Ready | Ran | Done:
        end_s = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            left_s = end_s - time.monotonic()
            if left_s <= 0 or self.stopped.is_set():
                raise OutOfTime
            ready, _, _ = select.select([self._answers], [], [], min(left_s, _WAKE_S))
            if not ready:
                continue
            piece = os.read(self._answers, _PIECE)
            if not piece:
                raise WorkerLost(self.last_lines())
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return _ANY.validate_json(line)
        except ValidationError as error:
            raise WorkerLost(f"it answered {line[:100]!r}") from error

    def last_lines(self) -> str:
        if self._log is None or not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:])

    def close(self) -> None:
        self._ended.set()
        for descriptor in (self._jobs, self._answers):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._jobs = self._answers = -1
        self._thread.join()
