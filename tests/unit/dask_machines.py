# SPDX-License-Identifier: GPL-2.0-only
"""A Dask scheduler and workers as processes of their own on loopback, and jobs for them."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.deadline import Deadline, wait_until
from harness.errors import RaceShown
from harness.tools.race.worker_runs import TrialAnswer
from harness.vm.host.process import spawn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from harness.vm.host.process import Process

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0


class Machines:
    """A scheduler, and workers that can be killed; each has a cache of its own."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        *,
        allowed_failures: int = 3,
        scheme: str = "tcp",
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._environment = {
            **os.environ,
            **more,
            # The jobs below are imported by their module's name.
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures),
        }
        self._folder = folder
        self._stack = stack
        self.workers: list[Process[bytes]] = []
        self.caches: list[Path] = []
        log = self._start(
            "scheduler", "dask_scheduler", "--port", "0", "--no-dashboard", "--protocol", scheme
        )
        self.address = self._find(log, rf"Scheduler at:\s+({scheme}://\S+)")

    def add_worker(self, *options: str) -> None:
        """Start a worker that does one job at a time."""
        name = f"worker{len(self.workers)}"
        cache = self._folder / name
        log = self._start(
            name,
            "dask_worker",
            self.address,
            *("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"),
            *options,
            more={"KLP_HARNESS_CACHE": str(cache)},
        )
        self._find(log, r"(Registered to)")
        self.caches.append(cache)

    def kill(self, number: int) -> int:
        """End a worker as the kernel's out-of-memory killer does; return its process id."""
        self.workers[number].send_signal(signal.SIGKILL)
        self.workers[number].wait()
        return self.workers[number].pid

    def _start(
        self, name: str, program: str, *words: str, more: dict[str, str] | None = None
    ) -> Path:
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = self._stack.enter_context(
                spawn(
                    [
                        *(sys.executable, "-m", f"distributed.cli.{program}"),
                        *(*words, "--host", "127.0.0.1"),
                    ],
                    stdout=output,
                    stderr=output,
                    cwd=self._folder,
                    env={**self._environment, **(more or {})},
                )
            )
        if program == "dask_worker":
            self.workers.append(process)
        return log

    @staticmethod
    def _find(log: Path, pattern: str) -> str:
        wait_until(
            lambda: re.search(pattern, log.read_text()) is not None, Deadline.after(PATIENCE_S)
        )
        found = re.search(pattern, log.read_text())
        assert found is not None, log.read_text()
        return found[1]


class Waits:
    """A job that leaves a file when it begins, and ends when there is a file named go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> int:
        (self.folder / f"began-{number}-{os.getpid()}").touch()
        assert wait_until((self.folder / "go").exists, Deadline.after(PATIENCE_S))
        return number

    def begun(self) -> list[tuple[int, int]]:
        """The numbers of the jobs that have begun, each with the process that did."""
        names = [path.name.split("-") for path in self.folder.glob("began-*")]
        return [(int(number), int(pid)) for _, number, pid in names]


def shows_odd(order: Any) -> TrialAnswer:
    """Show the race in trials with an odd seed, with a log; as a worker answers."""
    shown = RaceShown("it is there", artefacts=Path("/somewhere/else")) if order.seed % 2 else None
    return TrialAnswer(
        seconds=0.5,
        host="there",
        ended_by=shown,
        files=(("console.log", b"x"), ("trial.json", b'{"seed": 1}')) if shown else (),
    )


def square(number: int) -> int:
    return number * number


def breaks(number: int) -> int:
    raise FileNotFoundError(number, "is not there")


def kills_its_worker(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number
