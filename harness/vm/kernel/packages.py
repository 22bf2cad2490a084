# SPDX-License-Identifier: GPL-2.0-only
"""Which packages make up a distribution's kernel: image, modules, headers; as apt offers them.

Nothing is installed. The machine's own sources lists are read, with a private state of apt.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DownloadFailed, UsageError
from harness.log import LOGGER
from harness.vm.kernel.apt import NETWORK_HINT, PrivateApt, Sources, content_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness.deadline import Deadline
    from harness.vm.kernel.progress import Progress

_FRESH_S = 7 * 24 * 3600.0
_FIELD = re.compile(r"^(Package|Version|Depends|Pre-Depends|Size|SHA256): (.*)$", re.MULTILINE)
_IMAGE = "linux-image-"
_HEADERS = "linux-headers-"
# What an image or headers package needs for a guest and for building modules; the rest of their
# dependencies are for installing them.
_IMAGE_PARTS = (_IMAGE, "linux-modules-", "linux-binary-", "linux-base-")
_HEADER_PARTS = (_HEADERS, "linux-kbuild-")


@dataclass(frozen=True, kw_only=True)
class BinaryPackage:
    """A package as apt offers it. ``sha256`` is that of the .deb, ``depends`` are names alone."""

    name: str
    version: str
    sha256: str
    size_bytes: int
    depends: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class KernelPackages:
    """A packaged kernel: ``image`` is the package with the kernel itself, ``all`` what it takes."""

    image: BinaryPackage
    all: tuple[BinaryPackage, ...]
    resolved_s: float

    @property
    def description(self) -> str:
        """Name and version of the image's package."""
        return f"{self.image.name} {self.image.version}"


def parse_packages(text: str) -> tuple[BinaryPackage, ...]:
    """Return the packages that ``apt-cache show`` printed, the first of each name alone."""
    found: dict[str, BinaryPackage] = {}
    for stanza in text.split("\n\n"):
        fields = dict(_FIELD.findall(stanza))
        name = fields.get("Package")
        if name is None or name in found or "SHA256" not in fields:
            continue
        depends = f"{fields.get('Pre-Depends', '')}, {fields.get('Depends', '')}"
        found[name] = BinaryPackage(
            name=name,
            version=fields["Version"],
            sha256=fields["SHA256"],
            size_bytes=int(fields["Size"]),
            depends=tuple(_names(depends)),
        )
    return tuple(found.values())


def _names(depends: str) -> Iterator[str]:
    """Yield the first alternative of each dependency, without version and architecture."""
    for dependency in depends.split(","):
        words = dependency.split("|")[0].split()
        if words:
            yield words[0].partition(":")[0]


def kernel_packages(
    named: str, show: Callable[[str], BinaryPackage | None]
) -> tuple[BinaryPackage, tuple[BinaryPackage, ...]]:
    """Return the package with the kernel itself, and all that a guest and a module build need.

    ``show`` returns a package by its name. A metapackage (linux-image-amd64) is followed to what it
    depends on.
    Raises UsageError when the name is no kernel's, or it or its headers are not offered.
    """
    if not named.startswith(_IMAGE):
        raise UsageError(
            f"{named or 'nothing'} is no package of a kernel: their names begin with {_IMAGE}",
            hint="for example deb:linux-image-cloud-amd64",
        )
    image = _shown(named, show)
    while further := [name for name in image.depends if name.startswith(_IMAGE)]:
        image = _shown(further[0], show)
    # Debian's name ends so, Ubuntu's begins so; both have the same headers as what is signed.
    signed = image.name.removesuffix("-unsigned").replace("-unsigned-", "-", 1)
    headers = signed.replace(_IMAGE, _HEADERS, 1)
    parts = {image.name: image}
    _collect(_IMAGE_PARTS, image.depends, parts, show)
    _collect(_HEADER_PARTS, (headers,), parts, show)
    return image, tuple(parts.values())


def _collect(
    prefixes: tuple[str, ...],
    names: Iterable[str],
    parts: dict[str, BinaryPackage],
    show: Callable[[str], BinaryPackage | None],
) -> None:
    for name in names:
        if name.startswith(prefixes) and name not in parts:
            parts[name] = _shown(name, show)
            _collect(prefixes, parts[name].depends, parts, show)


def _shown(name: str, show: Callable[[str], BinaryPackage | None]) -> BinaryPackage:
    package = show(name)
    if package is None:
        raise UsageError(
            f"apt on this machine knows no package {name}",
            hint="`apt-cache search linux-image-` lists the kernels that it knows",
        )
    return package


class PackagedKernels:
    """Kernels as the machine's distribution packages them; apt's state is kept below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._apt = PrivateApt(folder, Sources.MACHINE)

    def resolve(
        self,
        named: str,
        *,
        further: Sequence[str] = (),
        deadline: Deadline,
        progress: Progress,
    ) -> KernelPackages:
        """Return the packages of a kernel, as asked for within the last week or asked for now.

        ``further`` are taken besides, such as one of debug information.
        Without an answer now, an older one is used, with a warning.
        Raises UsageError as `kernel_packages` does, DownloadFailed, MissingTool.
        """
        return self._apt.recall(
            "+".join([Path(named).name, *further])[:200],
            KernelPackages,
            lambda: self._ask(named, further, deadline),
            fresh_s=_FRESH_S,
            deadline=deadline,
            announce=lambda: progress.stage(f"asking the machine's package archive for {named}"),
        )

    def download(
        self, packages: KernelPackages, folder: Path, *, deadline: Deadline, progress: Progress
    ) -> tuple[Path, ...]:
        """Fetch the packages' files into a folder, each checked; raises DownloadFailed."""
        files = self._apt.download(
            [f"{package.name}={package.version}" for package in packages.all],
            folder,
            description=packages.description,
            size_bytes=sum(package.size_bytes for package in packages.all),
            deadline=deadline,
            progress=progress,
        )
        for package in packages.all:
            if not any(content_matches(file, f"SHA256:{package.sha256}") for file in files):
                raise DownloadFailed(
                    f"{package.name} does not have the checksum that the archive lists"
                )
        return files

    def _ask(self, named: str, further: Sequence[str], deadline: Deadline) -> KernelPackages:
        unsigned = self._apt.unsigned(deadline)
        if unsigned:
            LOGGER.warning(
                "the machine's sources lists trust %s without a signature ([trusted=yes]): what it "
                "offers is verified by its checksums alone",
                ", ".join(unsigned),
            )
        failed = self._apt.update(deadline)

        def show(name: str) -> BinaryPackage | None:
            return self._show(name, deadline)

        try:
            image, parts = kernel_packages(named, show)
            parts += tuple(_shown(name, show) for name in further)
        except UsageError as error:
            if not failed:
                raise
            raise DownloadFailed(
                f"{named} could not be found in the package archive",
                hint=NETWORK_HINT,
                details=failed,
            ) from error
        return KernelPackages(image=image, all=parts, resolved_s=time.time())

    def _show(self, name: str, deadline: Deadline) -> BinaryPackage | None:
        shown = self._apt.run(
            "apt-cache", "show", "--no-all-versions", name, deadline=deadline
        ).stdout
        return next((p for p in parse_packages(shown) if p.name == name), None)
