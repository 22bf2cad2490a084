# SPDX-License-Identifier: GPL-2.0-only
"""The machine's own apt, with state of the harness's: the system's is neither read nor changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic import TypeAdapter

from harness.errors import CommandFailed, DownloadFailed, HarnessError, MissingTool, UsageError
from harness.inputs import shown
from harness.log import LOGGER
from harness.vm.host.files import locked, read_text, replace_text
from harness.vm.host.process import find_program, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.process import Finished
    from harness.vm.kernel.progress import Progress

NETWORK_HINT = "is there a network? `apt-get update` shows more; sources can also come from a \
tarball or a tree"
_SHOWN_COMPLAINTS = 10


class Sources(StrEnum):
    """Which sources lists apt reads, by the name of the configuration file for it."""

    OWN = "apt.conf"
    MACHINE = "system.conf"


class Answer(Protocol):
    """What an archive offered when it was asked."""

    @property
    def description(self) -> str:
        """Name and version, for people."""

    @property
    def resolved_s(self) -> float:
        """When that was, in seconds since the epoch."""


AnswerT = TypeVar("AnswerT", bound=Answer)


def recall(
    path: Path,
    kind: type[AnswerT],
    ask: Callable[[], AnswerT],
    *,
    fresh_s: float,
    announce: Callable[[], None],
    locked: AbstractContextManager[None] | None = None,
) -> AnswerT:
    """Return what ``ask`` returns, now or within the last ``fresh_s`` seconds, kept in a file.

    ``announce`` is called before the archive is asked, under ``locked``. When it cannot be read, an
    older answer is used, with a warning. Raises what ``ask`` raises; an older answer replaces
    DownloadFailed alone.
    """
    adapter = TypeAdapter(kind)
    try:
        known = adapter.validate_json(read_text(path) or "")
    except ValueError:
        known = None
    if known is not None and time.time() - known.resolved_s < fresh_s:
        return known
    announce()
    with locked or contextlib.nullcontext():
        try:
            answer = ask()
        except DownloadFailed as error:
            if known is None:
                raise
            LOGGER.warning("%s; using %s as found before", error.message, known.description)
            return known
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, adapter.dump_json(answer).decode())
    return answer


class PrivateApt:
    """Lists, caches and configuration of apt in a folder of the cache; needs no privilege.

    In ``sources.list`` there the caller writes the sources that `Sources.OWN` names.
    """

    def __init__(self, folder: Path, sources: Sources) -> None:
        self.folder = folder
        self._sources = sources

    @contextlib.contextmanager
    def locked(self, deadline: Deadline) -> Iterator[None]:
        """Keep other processes from this state, made when it is not there.

        Raises HarnessError when time is up.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._prepare()
        except OSError as error:
            raise HarnessError(
                f"the cache in {self.folder} cannot be written: {error.strerror}",
                hint="KLP_HARNESS_CACHE names another folder for it",
            ) from error
        with locked(
            self.folder / "lock",
            deadline,
            busy=lambda: "another process still asks the package archive",
        ):
            yield

    def recall(
        self,
        record: str,
        kind: type[AnswerT],
        ask: Callable[[], AnswerT],
        *,
        fresh_s: float,
        deadline: Deadline,
        announce: Callable[[], None],
    ) -> AnswerT:
        """Return what ``ask`` returns, now or within the last ``fresh_s`` seconds.

        Answers are kept in the file ``record``.json. ``announce`` is called before the archive is
        asked. When it cannot be read, an older answer is used, with a warning.
        Raises what ``ask`` raises; an older answer replaces DownloadFailed alone.
        """
        return recall(
            self.folder / f"{record}.json",
            kind,
            ask,
            fresh_s=fresh_s,
            announce=announce,
            locked=self.locked(deadline),
        )

    def run(
        self,
        program: str,
        *arguments: str,
        deadline: Deadline,
        sources: Sources | None = None,
        cwd: Path | None = None,
        check: bool = False,
    ) -> Finished:
        """Run a program of apt's, which leaves the system's apt alone.

        Raises MissingTool, and with ``check`` CommandFailed.
        """
        try:
            found = find_program(program)
        except MissingTool as error:
            raise MissingTool(
                f"{error.message}: without it no sources come from Debian's archive",
                hint="give a kernel source tree, a tarball, or a URL with --sha256 instead",
            ) from error
        lists = sources or self._sources
        own = lists is Sources.OWN
        # A configuration file has no way to write a quote in a value; an option takes it as it is.
        places = [f"-o={name}={place}" for name, place in _places(self.folder, own=own).items()]
        # The harness reads its messages, so they must be in one language.
        environment = {**os.environ, "LC_ALL": "C"}
        argv = [found, "-c", str(self.folder / lists), *arguments, *places]
        return run(argv, deadline=deadline, cwd=cwd, env=environment, check=check)

    def unsigned(self, deadline: Deadline) -> tuple[str, ...]:
        """Return the archives that the sources lists declare to be trusted without a signature.

        No other setting overrides ``[trusted=yes]`` of a sources list, sources.list(5).
        """
        listed = self.run(
            "apt-get", "indextargets", "--format", "$(TRUSTED) $(SITE)", deadline=deadline
        )
        lines = [line.split() for line in listed.stdout.splitlines()]
        return tuple(dict.fromkeys(line[1] for line in lines if line[:1] == ["yes"] and line[1:]))

    def update(self, deadline: Deadline) -> tuple[str, ...]:
        """Read the archive's lists again; return what apt complains of, nothing when it worked."""
        updated = self.run("apt-get", "update", deadline=deadline)
        if updated.returncode == 0:
            return ()
        return complaints(updated) or ("apt-get update failed",)

    def download(
        self,
        packages: Sequence[str],
        folder: Path,
        *,
        description: str,
        size_bytes: int,
        deadline: Deadline,
        progress: Progress,
    ) -> tuple[Path, ...]:
        """Fetch packages, given as NAME=VERSION, into a folder and return their files.

        Raises DownloadFailed; the archive is then asked again the next time, since the version may
        be gone from it.
        """
        progress.stage(f"fetching {description}")
        with self.locked(deadline), watched_download(folder, size_bytes, progress):
            try:
                self.run(
                    "apt-get", "download", *packages, deadline=deadline, cwd=folder, check=True
                )
            except CommandFailed as error:
                for record in self.folder.glob("*.json"):
                    record.unlink()
                raise DownloadFailed(
                    f"{description} could not be fetched",
                    hint=NETWORK_HINT,
                    details=_complaints(error.details) or error.details[-5:],
                ) from error
        return tuple(sorted(folder.glob("*.deb")))

    def _prepare(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        for name in Sources:
            replace_text(self.folder / name, _CONFIGURATION)


def _places(folder: Path, *, own: bool) -> dict[str, str]:
    """Return where apt has its files. ``own``: the sources list too is the one in the folder.

    Raises UsageError for a folder that no line of apt's protocols can name.
    """
    if not str(folder).isprintable():
        raise UsageError(
            f"apt cannot use the folder {shown(folder)}: its name has control characters",
            hint="KLP_HARNESS_CACHE names another folder for the cache",
        )
    places = {
        "Dir::State": f"{folder}/state",
        "Dir::State::lists": f"{folder}/lists",
        "Dir::State::status": f"{folder}/status",
        "Dir::Cache": f"{folder}/cache",
    }
    if own:
        places["Dir::Etc::sourcelist"] = f"{folder}/sources.list"
        places["Dir::Etc::sourceparts"] = "/dev/null"
    return places


_CONFIGURATION = """\
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
// Whatever the machine allows: what is fetched here is signed, and so is its list.
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::https::Verify-Peer "true";
Acquire::https::Verify-Host "true";
// apt would drop to user _apt, who may not enter a cache in somebody's home.
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
// The machine's hooks inform its own services about the system's lists.
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
"""


def complaints(*finished: Finished) -> tuple[str, ...]:
    """Return the first lines in which apt complains, each once."""
    return _complaints(
        [line for each in finished for line in (each.stdout + each.stderr).splitlines()]
    )


def _complaints(lines: Sequence[str]) -> tuple[str, ...]:
    wanted = [line for line in lines if line.startswith(("E: ", "W: ", "Err:"))]
    return tuple(dict.fromkeys(wanted))[:_SHOWN_COMPLAINTS]


def content_matches(file: Path, checksum: str) -> bool:
    """Return whether a file has a checksum such as ``SHA256:...``."""
    algorithm, _, expected = checksum.partition(":")
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm.lower()).hexdigest() == expected


@contextlib.contextmanager
def watched_download(
    folder: Path, total_bytes: int, progress: Progress, names: str = "*.deb*"
) -> Iterator[None]:
    """Count a growing download, of so many bytes or of 0 when that is not known.

    Package managers print no progress into a pipe.
    """
    end = threading.Event()
    total_mib = max(1, total_bytes >> 20) if total_bytes else None

    def report() -> None:
        while not end.wait(0.5):
            size = sum(path.stat().st_size for path in folder.rglob(names))
            done = size >> 20
            progress.count(min(done, total_mib) if total_mib else done, total_mib, "MiB")

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
