# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources from Debian's archive, by the machine's own apt, with a private state.

The mirror is the one that the machine's apt uses, whatever its release; proxies and credentials are
those of apt's configuration. Lists, caches and the sources list are private, so the system's apt
state is neither read nor changed, and no privilege is needed.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DownloadFailed, UsageError
from harness.log import LOGGER
from harness.vm.kernel.apt import NETWORK_HINT, PrivateApt, Sources, complaints, content_matches
from harness.vm.kernel.spec import NEWEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.deadline import Deadline
    from harness.vm.kernel.progress import Progress

_SUITE_OF_SERIES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", NEWEST: "sid"}
_DEBIAN_SUITES = {
    *("bullseye", "bookworm", "trixie", "forky", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
}
_WITHOUT_SECURITY = ("sid", "unstable", "experimental")
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
    """Debian's archive, read through apt; its state is kept below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def resolve(self, series: str, *, deadline: Deadline, progress: Progress) -> Package:
        """Return the package with the sources of a series.

        An answer is kept for a week (``newest``: a day), so that a warm run needs no network; when
        the archive cannot be asked after that, the old answer is used, with a warning.
        Raises DownloadFailed without an answer, MissingTool without apt.
        """
        apt = self._apt(series)
        return apt.recall(
            "resolved",
            Package,
            lambda: _ask(apt, series, deadline),
            fresh_s=_FRESH_S.get(series, _FRESH_DEFAULT_S),
            deadline=deadline,
            announce=lambda: progress.stage(f"asking Debian's archive for the sources of {series}"),
        )

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
        files = self._apt(series).download(
            [f"{package.name}={package.version}"],
            folder,
            description=package.description,
            size_bytes=package.size_bytes,
            deadline=deadline,
            progress=progress,
        )
        if len(files) != 1 or not content_matches(files[0], package.checksum):
            raise DownloadFailed(
                f"{package.description} does not have the checksum that the archive lists"
            )
        return files[0]

    def download_source(
        self, name: str, folder: Path, *, deadline: Deadline, progress: Progress
    ) -> Path:
        """Fetch the upstream tarball of a source package in unstable, which apt has checked.

        Raises DownloadFailed, MissingTool without apt.
        """
        apt = self._apt("sources")
        progress.stage(f"fetching the sources of {name}")
        failed: tuple[str, ...] = ()
        with apt.locked(deadline):
            for lines in sources_lists(apt, _SUITE_OF_SERIES[NEWEST], deadline):
                sources = [line.replace("deb ", "deb-src ", 1) for line in lines]
                (apt.folder / "sources.list").write_text("\n".join(sources) + "\n")
                failed += apt.update(deadline)
                # The tarball alone: of an older version a mirror may have no more.
                only = ("--download-only", "--tar-only")
                fetched = apt.run("apt-get", "source", *only, name, deadline=deadline, cwd=folder)
                files = list(folder.glob("*.tar.*"))
                if fetched.returncode == 0 and len(files) == 1:
                    return files[0]
                failed += complaints(fetched)
        raise DownloadFailed(
            f"the sources of {name} could not be fetched", hint=NETWORK_HINT, details=failed[:10]
        )

    def _apt(self, series: str) -> PrivateApt:
        return PrivateApt(self._folder / series, Sources.OWN)


def _ask(apt: PrivateApt, series: str, deadline: Deadline) -> Package:
    failed: tuple[str, ...] = ()
    for lines in sources_lists(apt, _SUITE_OF_SERIES[series], deadline):
        (apt.folder / "sources.list").write_text("\n".join(lines) + "\n")
        complained = apt.update(deadline)
        package = _offered(apt, series, deadline)
        if package is not None:
            if not complained:
                return package
            LOGGER.warning(
                "Debian's archive was not read in full (%s); found there before: %s",
                complained[0],
                package.description,
            )
            return replace(package, resolved_s=0.0)  # so that the next run asks again
        failed += complained
    raise DownloadFailed(
        f"no source package for {series} could be found in Debian's archive",
        hint=NETWORK_HINT,
        details=failed[:10],
    )


def sources_lists(apt: PrivateApt, suite: str, deadline: Deadline) -> Iterator[list[str]]:
    """Yield sources lists of a suite to try, with security updates: one for each mirror.

    Raises UsageError when the machine's apt knows no mirror of Debian.
    """
    keyring = next((path for path in _KEYRINGS if path.exists()), None)
    options = f"[signed-by={keyring}] " if keyring is not None else ""
    archives, security = _mirrors(apt, deadline)
    for archive in archives:
        lines = [f"deb {options}{archive} {suite} main"]
        if suite not in _WITHOUT_SECURITY:
            source = security or re.sub(r"/debian$", "/debian-security", archive)
            yield [*lines, f"deb {options}{source} {suite}-security main"]
        else:
            yield lines


def _mirrors(apt: PrivateApt, deadline: Deadline) -> tuple[list[str], str | None]:
    """Return the base URIs of Debian's archive, and of its security archive, as apt knows them.

    Raises UsageError when it knows none, as on Ubuntu.
    """
    named = os.environ.get(_MIRROR_VARIABLE)
    if named:
        return [named.rstrip("/")], None
    listed = apt.run(
        "apt-get", "update", "--print-uris", deadline=deadline, sources=Sources.MACHINE
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
            # Another vendor's repository may have these suites: apt checks Debian's key.
            archives[base] = None
    if not archives:
        raise UsageError(
            "apt on this machine knows no archive of Debian, which has the kernel's sources",
            hint=f"{_MIRROR_VARIABLE}=http://MIRROR/debian names one; or give a source tree, or a "
            "tarball",
        )
    return [*archives], security


def _offered(apt: PrivateApt, series: str, deadline: Deadline) -> Package | None:
    name = _package_name(apt, series, deadline)
    if name is None:
        return None
    shown = apt.run("apt-get", "download", "--print-uris", name, deadline=deadline)
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


def _package_name(apt: PrivateApt, series: str, deadline: Deadline) -> str | None:
    if series != NEWEST:
        return f"linux-source-{series}"
    listed = apt.run("apt-cache", "pkgnames", "linux-source-", deadline=deadline, check=True)
    found = [match for line in listed.stdout.split() if (match := _SOURCE_NAME.match(line))]
    if not found:
        return None
    return max(found, key=lambda match: (int(match[1]), int(match[2]))).group()
