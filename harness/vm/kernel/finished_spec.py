# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are finished: installed on this machine, or packaged as .deb or .rpm."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.errors import UsageError
from harness.inputs import Kind, kind_of, shown, user_path

INSTALLED = "installed"
_BOOT = Path("/boot")
_IMAGE_NAME = "vmlinuz"
_MOST_PACKAGES = 32


class Packaging(StrEnum):
    """A format of packages; the value is the prefix of the spec and the end of the files' names."""

    DEB = "deb"
    RPM = "rpm"


# Debian Policy 5.6.1; of rpm's names what dnf and zypper take for a name, with a version or not.
_NAMES = {
    Packaging.DEB: re.compile(r"[a-z0-9][a-z0-9+.-]{0,199}\Z"),
    Packaging.RPM: re.compile(r"[A-Za-z0-9][A-Za-z0-9+._~^-]{0,199}\Z"),
}
_EXAMPLES = {
    Packaging.DEB: "deb:linux-image-cloud-amd64, or files: deb:./linux-image.deb,./headers.deb",
    Packaging.RPM: "rpm:kernel-default, or files: rpm:./kernel-core.rpm,./kernel-devel.rpm",
}


@dataclass(frozen=True, kw_only=True)
class InstalledSpec:
    """A kernel that is installed, by its image: boot/vmlinuz-X or lib/modules/X/vmlinuz."""

    image: Path


@dataclass(frozen=True, kw_only=True)
class PackageSpec:
    """A kernel in the machine's package archive: its package, and further ones of its symbols."""

    name: str
    further: tuple[str, ...] = ()
    packaging: Packaging = Packaging.DEB


@dataclass(frozen=True, kw_only=True)
class PackageFilesSpec:
    """A kernel in files of packages: image, modules, headers, in any order."""

    files: tuple[Path, ...]
    packaging: Packaging


FinishedSpec = InstalledSpec | PackageSpec | PackageFilesSpec


def parse_finished(text: str) -> FinishedSpec | None:
    """Return the finished kernel that a text names by its form; None when it has another form.

    Raises UsageError for what has the form, and names nothing. Raises OSError, ValueError as the
    file system does.
    """
    if text == INSTALLED:
        return InstalledSpec(image=_image(_BOOT / f"{_IMAGE_NAME}-{os.uname().release}"))
    for packaging in Packaging:
        if text.startswith(f"{packaging}:"):
            return _packages(text.removeprefix(f"{packaging}:"), packaging)
    if "://" not in text and text.rpartition("/")[2].startswith(_IMAGE_NAME):
        path = user_path(text, "the kernel")
        kind = kind_of(path, "the kernel")
        if kind is Kind.FILE or (kind is Kind.NOTHING and "/" in text):
            return InstalledSpec(image=_image(path))
    return None


def _image(path: Path) -> Path:
    if kind_of(path, "the kernel's image") is not Kind.FILE:
        raise UsageError(
            f"there is no kernel image {shown(path)}",
            hint="the kernels of this machine are the files /boot/vmlinuz-*; a container has none, "
            "though its host has",
        )
    return path.absolute()


def _packages(text: str, packaging: Packaging) -> PackageSpec | PackageFilesSpec:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > _MOST_PACKAGES:
        raise UsageError(f"a kernel has no {len(parts)} packages: {_MOST_PACKAGES} at most")
    are_files = [part.endswith(f".{packaging}") or "/" in part for part in parts]
    if any(are_files):
        if not all(are_files):
            raise UsageError(
                f"{packaging}: takes names of packages or their files, not both: "
                f"'{shown(parts[are_files.index(False)])}' is no file",
                hint=f"for example {_EXAMPLES[packaging]}",
            )
        files = tuple(_file(part, packaging) for part in parts)
        return PackageFilesSpec(files=tuple(dict.fromkeys(files)), packaging=packaging)
    for part in parts:
        if not _NAMES[packaging].match(part):
            raise UsageError(
                f"'{shown(part)}' is no name of a package",
                hint=f"for example {_EXAMPLES[packaging]}",
            )
    return PackageSpec(name=parts[0], further=tuple(parts[1:]), packaging=packaging)


def _file(text: str, packaging: Packaging) -> Path:
    path = user_path(text, "the package")
    if not path.name.endswith(f".{packaging}") or kind_of(path, "the package") is not Kind.FILE:
        raise UsageError(
            f"there is no package {shown(text)}: {packaging}: takes files that end in .{packaging}",
            hint=f"for example {_EXAMPLES[packaging]}",
        )
    return path.absolute()
