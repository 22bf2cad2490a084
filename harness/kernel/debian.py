# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources from Debian's archive, by the machine's own apt, with state of our own.

The mirror is the one that the machine's apt uses, whatever its release; proxies and credentials are
those of apt's configuration. Lists, caches and the sources list are private, so the system's apt
state is neither read nor changed, and no privilege is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import (
    CommandFailed,
    DownloadFailed,
    HarnessError,
    MissingTool,
    NoSpace,
    UsageError,
)
from harness.host.process import find_program, run
from harness.kernel.spec import NEWEST
from harness.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.deadline import Deadline
    from harness.kernel.progress import Progress

_SUITE_OF_SERIES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", NEWEST: "sid"}
_DEBIAN_SUITES = {
    *("bullseye", "bookworm", "trixie", "forky", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
}
_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
# For machines whose own archive is not Debian's, Ubuntu above all.
_MIRROR_VARIABLE = "KLP_HARNESS_DEBIAN_MIRROR"
_FRESH_S = {NEWEST: 24 * 3600.0}
_FRESH_DEFAULT_S = 7 * 24 * 3600.0
_INDEX_LINE = re.compile(r"'(?P<base>[^']+?)/+dists/(?P<suite>[^']+?)/main/[^']*'")
_FILE_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) (?P<hash>[A-Za-z0-9]+:\S+)")
_SOURCE_NAME = re.compile(r"linux-source-(\d+)\.(\d+)\Z")
_NETWORK_HINT = "is there a network? `apt-get update` tells more; sources can also come from a \
tarball or a tree"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A source package as the archive offers it now. ``checksum`` is ``SHA256:...`` of the .deb."""

    name: str
    version: str
    checksum: str
    size_bytes: int
    resolved_s: float

    @property
    def description(self) -> str:
        """Name and version, for people."""
        return f"{self.name} {self.version}"


class DebianArchive:
    """What Debian's archive has, seen through apt; keeps its state below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def resolve(
        self, series: str, *, deadline: Deadline, progress: Progress, refresh: bool = False
    ) -> Package:
        """Return the package with the sources of a series.

        An answer is kept for a week (``newest``: a day), so that a warm run needs no network; when
        the archive cannot be asked after that, the old answer holds, with a warning.
        Raises DownloadFailed without an answer, MissingTool without apt.
        """
        state = self._state(series)
        known = state.record()
        fresh_s = _FRESH_S.get(series, _FRESH_DEFAULT_S)
        if known is not None and not refresh and time.time() - known.resolved_s < fresh_s:
            return known
        progress.stage(f"asking Debian's archive for the sources of {series}")
        try:
            with state.locked(deadline):
                package = _ask(state, series, deadline)
                state.write_record(package)
        except DownloadFailed as error:
            if known is None:
                raise
            LOGGER.warning("%s; using %s as found before", error.message, known.description)
            return known
        return package

    def download(
        self,
        series: str,
        package: Package,
        folder: Path,
        *,
        deadline: Deadline,
        progress: Progress,
    ) -> Path:
        """Fetch the package's file into a folder, its content checked by apt and once more here.

        Raises DownloadFailed.
        """
        state = self._state(series)
        progress.stage(f"fetching {package.description}")
        with state.locked(deadline), _watch(folder, package.size_bytes, progress):
            try:
                run(
                    state.apt("apt-get", "download", f"{package.name}={package.version}"),
                    deadline=deadline,
                    cwd=folder,
                    env=_environment(),
                )
            except NoSpace:
                raise
            except CommandFailed as error:
                # The version may be gone from the archive: the next try asks again.
                state.forget()
                raise DownloadFailed(
                    f"{package.description} could not be fetched",
                    hint=_NETWORK_HINT,
                    details=_complaints(error.details) or error.details[-5:],
                ) from error
        files = list(folder.glob("*.deb"))
        if len(files) != 1 or not _matches(files[0], package.checksum):
            raise DownloadFailed(f"{package.description} came with other content than promised")
        return files[0]

    def _state(self, series: str) -> _State:
        return _State(self._folder / series)


class _State:
    """The private apt state of one series."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._record = folder / "resolved.json"

    @contextlib.contextmanager
    def locked(self, deadline: Deadline) -> Iterator[None]:
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

    def record(self) -> Package | None:
        try:
            content = json.loads(self._record.read_text())
            return Package(**content)
        except (OSError, ValueError, TypeError):
            return None

    def write_record(self, package: Package) -> None:
        aside = self._record.with_suffix(".new")
        aside.write_text(json.dumps(asdict(package)))
        aside.rename(self._record)

    def forget(self) -> None:
        self._record.unlink(missing_ok=True)

    def apt(self, program: str, *arguments: str, own_sources: bool = True) -> list[str]:
        """Return a command that leaves the system's apt alone."""
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


def _ask(state: _State, series: str, deadline: Deadline) -> Package:
    state.prepare()
    complaints: tuple[str, ...] = ()
    for lines in _sources_lists(state, series, deadline):
        (state.folder / "sources.list").write_text("\n".join(lines) + "\n")
        updated = run(
            state.apt("apt-get", "update"), deadline=deadline, env=_environment(), check=False
        )
        failed = _complaints((updated.stdout + updated.stderr).splitlines())
        package = _offered(state, series, deadline)
        if package is not None:
            if updated.returncode == 0:
                return package
            LOGGER.warning(
                "Debian's archive was not read in full (%s); found there before: %s",
                next(iter(failed), "apt-get update failed"),
                package.description,
            )
            return replace(package, resolved_s=0.0)  # so that the next run asks again
        complaints += failed
    raise DownloadFailed(
        f"Debian's archive did not give a source package for {series}",
        hint=_NETWORK_HINT,
        details=complaints[:10],
    )


def _sources_lists(state: _State, series: str, deadline: Deadline) -> Iterator[list[str]]:
    """Yield sources lists to try: each mirror of the machine, with and without security updates."""
    suite = _SUITE_OF_SERIES[series]
    keyring = next((path for path in _KEYRINGS if path.exists()), None)
    options = f"[signed-by={keyring}] " if keyring is not None else ""
    archives, security = _mirrors(state, deadline)
    for archive in archives:
        lines = [f"deb {options}{archive} {suite} main"]
        if suite != "sid":
            source = security or re.sub(r"/debian$", "/debian-security", archive)
            yield [*lines, f"deb {options}{source} {suite}-security main"]
        else:
            yield lines


def _mirrors(state: _State, deadline: Deadline) -> tuple[list[str], str | None]:
    """Return the base URIs of Debian's archive, and of its security archive, as apt knows them.

    Raises UsageError when it knows none, as on Ubuntu.
    """
    named = os.environ.get(_MIRROR_VARIABLE)
    if named:
        return [named.rstrip("/")], None
    listed = run(
        state.apt("apt-get", "update", "--print-uris", own_sources=False),
        deadline=deadline,
        env=_environment(),
        check=False,
    )
    archives: dict[str, None] = {}
    security = None
    for match in _INDEX_LINE.finditer(listed.stdout):
        base, suite = match["base"], match["suite"]
        if suite.startswith("cdrom") or base.startswith("cdrom"):
            continue
        if suite.endswith("-security") and suite.removesuffix("-security") in _DEBIAN_SUITES:
            security = security or base
        elif suite in _DEBIAN_SUITES:
            # Another vendor's repository may use Debian's suite names: Debian's key tells.
            archives[base] = None
    if not archives:
        raise UsageError(
            "apt on this machine knows no archive of Debian, which has the kernel's sources",
            hint=f"{_MIRROR_VARIABLE}=http://MIRROR/debian names one; or give a source tree, or a "
            "tarball",
        )
    return [*archives], security


def _offered(state: _State, series: str, deadline: Deadline) -> Package | None:
    name = _package_name(state, series, deadline)
    if name is None:
        return None
    shown = run(
        state.apt("apt-get", "download", "--print-uris", name),
        deadline=deadline,
        env=_environment(),
        check=False,
    )
    match = _FILE_LINE.search(shown.stdout)
    if match is None:
        return None
    version = match["file"].split("_")[1].replace("%3a", ":")
    return Package(
        name=name,
        version=version,
        checksum=match["hash"],
        size_bytes=int(match["size"]),
        resolved_s=time.time(),
    )


def _package_name(state: _State, series: str, deadline: Deadline) -> str | None:
    if series != NEWEST:
        return f"linux-source-{series}"
    listed = run(
        state.apt("apt-cache", "pkgnames", "linux-source-"), deadline=deadline, env=_environment()
    )
    found = [match for line in listed.stdout.split() if (match := _SOURCE_NAME.match(line))]
    if not found:
        return None
    return max(found, key=lambda match: (int(match[1]), int(match[2]))).group()


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _complaints(lines: Sequence[str]) -> tuple[str, ...]:
    wanted = [line for line in lines if line.startswith(("E: ", "W: ", "Err:"))]
    return tuple(dict.fromkeys(wanted))


def _matches(file: Path, checksum: str) -> bool:
    algorithm, _, expected = checksum.partition(":")
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm.lower()).hexdigest() == expected


class _watch:  # noqa: N801 - reads as a verb in a with statement
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
