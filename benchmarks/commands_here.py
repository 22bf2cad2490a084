# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness as a process of its own, with its own runs folder, for campaigns that watch it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.deadline import Deadline, wait_until
from harness.vm.host.process import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.vm.host.process import Process

TRACES = ("Traceback (most recent call last)", "this is a bug in klp-harness")
# nohup and a shell's background have signals ignored, and so would all that is started there.
DEFAULT_SIGNALS = ("env", "--default-signal=INT,TERM,HUP")
_PRIVATE = ("host_key", "client_key")
_RUN_FOLDER = re.compile(r"\d{8}-\d{6}-.+")
_GONE_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A command that ended: its exit code (negative: a signal), what it printed, and its JSON."""

    words: tuple[str, ...]
    code: int
    output: str
    seconds: float
    report: Any = None
    """What ``--json`` wrote; None when it wrote nothing."""

    @property
    def line(self) -> str:
        """The command as a person would type it."""
        return " ".join(("klp-harness", *self.words))

    def tail(self, lines: int = 8) -> str:
        """Return the last lines that it printed."""
        return "\n".join(f"    {line}" for line in self.output.splitlines()[-lines:])


@dataclass(frozen=True, kw_only=True)
class Running:
    """A command that runs; ``output`` and ``report`` are its files."""

    process: Process[bytes]
    output: Path
    report: Path | None


class Place:
    """A folder for the runs of a campaign. All processes that it starts are known by it.

    ``kernel`` are the words that name the kernel to commands that start guests.
    """

    def __init__(self, folder: Path, kernel: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.kernel = kernel
        self.runs = folder / "runs"
        self.files = folder / "files"
        for made in (self.runs, self.files):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
        # next() is atomic: several threads may start commands.
        self._numbers = itertools.count(1)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the commands here."""
        return {**os.environ, "LC_ALL": "C.UTF-8", "KLP_HARNESS_RUNS": str(self.runs)}

    @contextlib.contextmanager
    def start(self, words: Sequence[str], *, stdin: str = "", report: bool) -> Iterator[Running]:
        """Start klp-harness with those words; it is killed when the context ends.

        With ``report`` it writes its results as JSON. Raises OSError.
        """
        name = f"{os.getpid()}-{next(self._numbers)}"
        output, given = self.files / f"{name}.out", self.files / f"{name}.in"
        made = self.files / f"{name}.json" if report else None
        given.write_text(stdin)
        # The script that users start: what happens before its first line counts as well.
        program = Path(sys.executable).with_name("klp-harness")
        argv = [*DEFAULT_SIGNALS, program, *words, *(("--json", made) if made else ())]
        with (
            output.open("wb") as log,
            given.open("rb") as source,
            spawn(argv, stdin=source, stdout=log, stderr=log, env=self.environment) as process,
        ):
            yield Running(process=process, output=output, report=made)

    def run(
        self, words: Sequence[str], *, seconds: float, stdin: str = "", report: bool = True
    ) -> Ended:
        """Run a command to its end; one that takes longer than that is killed: exit code -9."""
        start = time.monotonic()
        with self.start(words, stdin=stdin, report=report) as running:
            wait_until(lambda: running.process.poll() is not None, Deadline.after(seconds))
        return self.ended(words, running, start)

    def ended(self, words: Sequence[str], running: Running, start: float) -> Ended:
        """Return what a command that has ended left. Raises ValueError for damaged JSON."""
        code = running.process.returncode
        report = None
        if running.report is not None and running.report.exists():
            report = json.loads(running.report.read_text(encoding="utf-8"))
        return Ended(
            words=tuple(words),
            code=-9 if code is None else code,
            output=running.output.read_text(errors="replace"),
            seconds=time.monotonic() - start,
            report=report,
        )

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder)

    def forget(self) -> None:
        """Remove the files of commands that have ended."""
        for path in self.files.iterdir():
            path.unlink()

    def processes(self) -> dict[int, str]:
        """Return all processes that belong to commands started here, this one left out."""
        mark = f"KLP_HARNESS_RUNS={self.runs}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            # One that ends meanwhile, or is another user's, is none of ours.
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = words.decode(errors="replace").strip()
        return found

    def orphans(self) -> dict[int, str]:
        """Return the processes that are still there, after a moment in which they may end."""
        wait_until(lambda: not self.processes(), Deadline.after(_GONE_S), interval_s=0.1)
        return self.processes()

    def run_folders(self) -> list[Path]:
        """Return the folders of runs that are still there."""
        return sorted(path for path in self.runs.iterdir() if _RUN_FOLDER.fullmatch(path.name))

    def left_of_dead_runs(self) -> list[str]:
        """Return private keys and initrds of runs; to be asked while no command runs here."""
        return sorted(
            str(path.relative_to(self.runs))
            for folder in self.run_folders()
            for path in folder.rglob("*")
            if path.name in _PRIVATE or path.name.startswith("initrd")
        )

    def remove_evidence(self) -> None:
        """Remove the folders of killed runs that have logs alone: those are kept on purpose."""
        for folder in self.run_folders():
            if {path.name for path in folder.iterdir()} <= {"guests", "in-use"}:
                shutil.rmtree(folder)

    def bug_logs(self) -> list[Path]:
        """Return the tracebacks that commands wrote here."""
        return sorted(self.runs.glob("bug-*.log"))
