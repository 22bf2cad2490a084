# SPDX-License-Identifier: GPL-2.0-only
"""The machine's own apt, with state of our own: the system's is neither read nor changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import HarnessError, MissingTool
from harness.vm.host.process import find_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.kernel.progress import Progress


class PrivateApt:
    """Lists, caches and configuration of apt in a folder of ours; needs no privilege."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self, deadline: Deadline) -> Iterator[None]:
        """Keep other processes from this state; raises HarnessError when time is up."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=deadline.remaining_s)
        except Timeout:
            raise HarnessError(
                "another process still asks Debian's archive, and time is up"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def apt(self, program: str, *arguments: str, own_sources: bool = True) -> list[str]:
        """Return a command that leaves the system's apt alone; raises MissingTool.

        Without ``own_sources`` it reads what the machine's sources lists name.
        """
        config = self.folder / ("apt.conf" if own_sources else "system.conf")
        try:
            found = find_program(program)
        except MissingTool as error:
            raise MissingTool(
                f"{error.message}: without it no sources come from Debian's archive",
                hint="give a kernel source tree, a tarball, or a URL with --sha256 instead",
            ) from error
        return [found, "-c", str(config), *arguments]

    def prepare(self) -> None:
        """Make folders and configuration."""
        for name in ("lists/partial", "cache/archives/partial", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        common = _configuration(self.folder)
        (self.folder / "system.conf").write_text(common)
        own = (
            f'Dir::Etc::sourcelist "{self.folder}/sources.list";\n'
            'Dir::Etc::sourceparts "/dev/null";\n'
        )
        (self.folder / "apt.conf").write_text(common + own)


def _configuration(folder: Path) -> str:
    return "\n".join(
        (
            f'Dir::State "{folder}/state";',
            f'Dir::State::lists "{folder}/lists";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::Cache "{folder}/cache";',
            'Dir::Etc::preferences "/dev/null";',
            'Dir::Etc::preferencesparts "/dev/null";',
            # apt would drop to user _apt, who may not enter a cache in somebody's home.
            'APT::Sandbox::User "root";',
            'APT::Update::Error-Mode "any";',
            'Acquire::Languages "none";',
            'Acquire::Retries "2";',
            'Acquire::http::Timeout "20";',
            'Acquire::https::Timeout "20";',
            'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";',
            'Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";',
            # Hooks of the machine tell its own services about the system's lists.
            "#clear APT::Update::Post-Invoke;",
            "#clear APT::Update::Post-Invoke-Success;",
            "#clear APT::Update::Pre-Invoke;",
            "",
        )
    )


def apt_environment() -> dict[str, str]:
    """Return the environment for apt, whose words are read."""
    return {**os.environ, "LC_ALL": "C"}


def complaints(lines: Sequence[str]) -> tuple[str, ...]:
    """Return what apt complains of, each once."""
    wanted = [line for line in lines if line.startswith(("E: ", "W: ", "Err:"))]
    return tuple(dict.fromkeys(wanted))


def content_matches(file: Path, checksum: str) -> bool:
    """Return whether a file has a checksum such as ``SHA256:...``."""
    algorithm, _, expected = checksum.partition(":")
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm.lower()).hexdigest() == expected


class watched_download:  # noqa: N801 - reads as a verb in a with statement
    """Counts a growing download; apt itself prints no progress into a pipe."""

    def __init__(self, folder: Path, total_bytes: int, progress: Progress) -> None:
        self._folder = folder
        self._total_mib = max(1, total_bytes >> 20)
        self._progress = progress
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _report(self) -> None:
        while not self._end.wait(0.5):
            size = sum(path.stat().st_size for path in self._folder.rglob("*.deb*"))
            self._progress.count(min(size >> 20, self._total_mib), self._total_mib, "MiB")
