# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in rpm packages, by the machine's own dnf or zypper, with caches of the harness's.

The machine's repositories are read; nothing is installed, and no privilege is needed.
"""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.errors import DownloadFailed, MissingTool, UsageError
from harness.inputs import shown
from harness.vm.host.process import find_program, run
from harness.vm.kernel.apt import recall, watched_download

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.process import Finished
    from harness.vm.kernel.progress import Progress

_FRESH_S = 7 * 24 * 3600.0
_ARCHITECTURES = ("x86_64", "noarch")
_HINT = "is there a network? `{0}` shows more; files of packages can also be given: rpm:FILE,..."
# zypper(8): nothing was found.
_ZYPPER_NOTHING = 104
# As rpm compares them, more or less: runs of digits as numbers, and runs of letters.
_PART = re.compile(r"\d+|[a-zA-Z]+|~")


@dataclass(frozen=True, kw_only=True)
class RpmPackage:
    """A package as a repository offers it. ``version`` is VERSION-RELEASE."""

    name: str
    version: str
    arch: str

    @property
    def sort_key(self) -> tuple[tuple[int, int, str], ...]:
        """What orders versions, the newest last."""
        found = [
            (-1, 0, "") if part == "~" else (1, int(part), "") if part.isdigit() else (0, 0, part)
            for part in _PART.findall(self.version)
        ]
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class RpmKernel:
    """A packaged kernel: all its packages, the one that was named first."""

    packages: tuple[RpmPackage, ...]
    resolved_s: float

    @property
    def description(self) -> str:
        """Name and version of the first package."""
        return f"{self.packages[0].name} {self.packages[0].version}"


class _Manager(Protocol):
    """A program that knows the machine's repositories."""

    name: str

    def offered(self, names: Sequence[str], deadline: Deadline) -> tuple[RpmPackage, ...]:
        """Return all versions of these packages. Raises DownloadFailed."""

    def download(
        self, packages: Sequence[RpmPackage], folder: Path, deadline: Deadline
    ) -> tuple[Path, ...]:
        """Fetch packages into a folder; return their files. Raises DownloadFailed."""


def companions(name: str) -> tuple[str, ...]:
    """Return the packages that may hold the rest of a kernel: modules, and headers.

    Fedora: kernel-core, kernel-modules-core, kernel-devel, where kernel itself is empty. SUSE:
    kernel-default with all modules, kernel-default-devel, and kernel-devel with the sources'
    headers.
    """
    base = name.removesuffix("-core")
    ends = ("", "-core", "-modules-core", "-modules", "-devel")
    return tuple(dict.fromkeys([name, *(base + end for end in ends), "kernel-devel"]))


class RpmArchive:
    """Kernels as the machine's distribution packages them in rpms; caches are below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def resolve(self, named: Sequence[str], *, deadline: Deadline, progress: Progress) -> RpmKernel:
        """Return the packages of a kernel, as asked for within the last week or asked for now.

        The first name is the kernel's, further ones are taken besides. Raises UsageError when there
        is no such package or no package of its headers, DownloadFailed, MissingTool without dnf
        and zypper.
        """
        return recall(
            self._folder / f"{'+'.join(named)[:200]}.json",
            RpmKernel,
            lambda: self._ask(named, deadline),
            fresh_s=_FRESH_S,
            announce=lambda: progress.stage(f"asking the machine's repositories for {named[0]}"),
        )

    def download(
        self, kernel: RpmKernel, folder: Path, *, deadline: Deadline, progress: Progress
    ) -> tuple[Path, ...]:
        """Fetch the packages' files, with the checksums that the repository lists.

        Raises DownloadFailed, MissingTool.
        """
        progress.stage(f"fetching {kernel.description}")
        with watched_download(folder, 0, progress, "*.rpm*"):
            return self._manager().download(kernel.packages, folder, deadline)

    def _manager(self) -> _Manager:
        for manager in (_Dnf, _Zypper):
            try:
                return manager(find_program(manager.name), self._folder)
            except MissingTool:
                continue
        raise MissingTool(
            "neither dnf nor zypper is installed, which know the machine's packages",
            hint="on Debian and Ubuntu give deb:PACKAGE; or give the packages' files: rpm:FILE,...",
        )

    def _ask(self, named: Sequence[str], deadline: Deadline) -> RpmKernel:
        manager = self._manager()
        name = named[0]
        matching = [each for each in manager.offered([name], deadline) if _fits(each)]
        if not matching:
            raise UsageError(
                f"{manager.name} on this machine knows no package {shown(name)} for x86_64",
                hint=f"`{manager.name} search kernel` lists those that it knows",
            )
        kernel = max(matching, key=lambda each: each.sort_key)
        wanted = [*companions(kernel.name), *named[1:]]
        found = {
            each.name: each
            for each in manager.offered(wanted, deadline)
            if _fits(each) and (each.version == kernel.version or each.name in named[1:])
        }
        if not any(each.endswith("-devel") for each in found):
            raise UsageError(
                f"{manager.name} on this machine knows no headers (-devel) of {kernel.name} "
                f"{kernel.version}",
                hint="modules are built against headers of the very same version: name one that "
                "has them, for example " + f"rpm:{kernel.name}-VERSION",
            )
        missing = [each for each in named[1:] if each not in found]
        if missing:
            raise UsageError(f"{manager.name} on this machine knows no package {shown(missing[0])}")
        packages = dict.fromkeys([kernel, *found.values()])
        return RpmKernel(packages=tuple(packages), resolved_s=time.time())


def _fits(package: RpmPackage) -> bool:
    return package.arch in _ARCHITECTURES


class _Dnf:
    name = "dnf"

    def __init__(self, program: str, folder: Path) -> None:
        self._argv = [program, "--quiet", f"--setopt=cachedir={folder}/dnf"]

    def offered(self, names: Sequence[str], deadline: Deadline) -> tuple[RpmPackage, ...]:
        form = "%{name}\t%{version}-%{release}\t%{arch}\n"
        said = _run([*self._argv, "repoquery", f"--queryformat={form}", *names], deadline).stdout
        rows = [line.split("\t") for line in said.splitlines() if line.count("\t") == 2]
        return tuple(RpmPackage(name=n, version=v, arch=a) for n, v, a in rows)

    def download(
        self, packages: Sequence[RpmPackage], folder: Path, deadline: Deadline
    ) -> tuple[Path, ...]:
        names = [f"{each.name}-{each.version}.{each.arch}" for each in packages]
        _run([*self._argv, "download", f"--destdir={folder}", *names], deadline)
        return _files(folder.glob("*.rpm"), packages)


class _Zypper:
    name = "zypper"

    def __init__(self, program: str, folder: Path) -> None:
        self._argv = [program, "--non-interactive", "--xmlout", f"--cache-dir={folder}/zypper"]

    def offered(self, names: Sequence[str], deadline: Deadline) -> tuple[RpmPackage, ...]:
        argv = [*self._argv, "search", "--details", "--match-exact", "--type=package", *names]
        found = _parsed(_run(argv, deadline, fine=(0, _ZYPPER_NOTHING)).stdout)
        return tuple(
            RpmPackage(
                name=each.get("name", ""),
                version=each.get("edition", ""),
                arch=each.get("arch", ""),
            )
            for each in found.iter("solvable")
        )

    def download(
        self, packages: Sequence[RpmPackage], folder: Path, deadline: Deadline
    ) -> tuple[Path, ...]:
        names = [f"{each.name}={each.version}" for each in packages]
        _run([*self._argv, f"--pkg-cache-dir={folder}", "download", *names], deadline)
        return _files(folder.rglob("*.rpm"), packages)


def _parsed(text: str) -> ET.Element:
    try:
        # What zypper on this machine prints of its own, and nothing from elsewhere.
        return ET.fromstring(text)  # noqa: S314
    except ET.ParseError as error:
        raise DownloadFailed(
            "zypper's answer cannot be read", hint=_HINT.format("zypper refresh")
        ) from error


def _files(found: Iterable[Path], packages: Sequence[RpmPackage]) -> tuple[Path, ...]:
    files = tuple(sorted(found))
    if len(files) != len(packages):
        raise DownloadFailed(
            f"of {len(packages)} packages {len(files)} were fetched",
            details=tuple(path.name for path in files),
        )
    return files


def _run(argv: list[str], deadline: Deadline, *, fine: tuple[int, ...] = (0,)) -> Finished:
    program = argv[0].rpartition("/")[2]
    finished = run(["env", "LC_ALL=C", *argv], deadline=deadline, check=False)
    if finished.returncode not in fine:
        lines = [line for line in (finished.stderr + finished.stdout).splitlines() if line.strip()]
        if "No such command: download" in finished.stderr:
            raise MissingTool(
                "dnf on this machine has no command download",
                hint="as root: dnf install 'dnf-command(download)'",
            )
        raise DownloadFailed(
            f"{program} could not answer for the machine's repositories",
            hint=_HINT.format(f"{program} repolist" if program == "dnf" else "zypper refresh"),
            details=tuple(shown(line) for line in lines[-5:]),
        )
    return finished
