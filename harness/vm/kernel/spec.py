# SPDX-License-Identifier: GPL-2.0-only
"""Which kernel: what a user types after --kernel, parsed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.inputs import Kind, kind_of, shown, user_path

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = "newest"
SERIES = ("5.10", "6.1", "6.12", NEWEST)
TARBALL_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tar.zst")
ACCEPTED = (
    f"accepted are {', '.join(SERIES)}, a folder with kernel sources (./linux), a tarball "
    "(linux-6.6.tar.xz), a URL of a tarball with --sha256, build:DIR, a finished build, and "
    "deb:PACKAGE, a kernel that the machine's distribution packages"
)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
# Debian Policy 5.6.1.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{0,199}\Z")
_URL = re.compile(r"[!-~]{1,2000}\Z")
_WHAT = "the kernel"


@dataclass(frozen=True, kw_only=True)
class SeriesSpec:
    """A series that Debian has a source package of, or ``newest``."""

    series: str


@dataclass(frozen=True, kw_only=True)
class TreeSpec:
    """A folder with kernel sources, with or without git."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class TarballSpec:
    """A file; ``sha256`` is what the user expects of it, if anything."""

    path: Path
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class UrlSpec:
    """A tarball somewhere else."""

    url: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """A folder in which a kernel was built already."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class PackageSpec:
    """A kernel that the machine's distribution packages, by the name of the package."""

    name: str


Spec = SeriesSpec | TreeSpec | TarballSpec | UrlSpec | BuildSpec | PackageSpec


def parse_spec(text: str, *, sha256: str | None = None) -> Spec:
    """Return what the text names. Nothing is fetched, the file system is only asked what exists.

    Raises UsageError when it is no form of naming a kernel.
    """
    if sha256 is not None and not _SHA256.match(sha256):
        raise UsageError(
            f"'{shown(sha256)}' is no SHA-256: that is 64 hexadecimal digits",
            hint="see sha256sum(1)",
        )
    expected = sha256.lower() if sha256 is not None else None
    try:
        spec = _parse(text, expected)
    except (OSError, RuntimeError, ValueError) as error:
        # Too long for a name, of a user that there is not (~name), no URL (http://[).
        raise UsageError(
            f"'{shown(text)}' names no kernel: {_reason(error)}", hint=ACCEPTED
        ) from error
    if expected is not None and not isinstance(spec, TarballSpec | UrlSpec):
        raise UsageError(
            f"--sha256 does not go with the kernel {shown(text)}",
            hint="it is for a tarball or a URL",
        )
    return spec


def _parse(text: str, sha256: str | None) -> Spec:
    if text in SERIES:
        return SeriesSpec(series=text)
    if text.startswith("build:"):
        return BuildSpec(path=_existing(text.removeprefix("build:")))
    if text.startswith("deb:"):
        return PackageSpec(name=_package(text.removeprefix("deb:")))
    if "://" in text:
        return _parse_url(text, sha256)
    if not text.strip():
        raise UsageError(f"unknown kernel {text!r}", hint=ACCEPTED)
    path = user_path(text, _WHAT)
    kind = kind_of(path, _WHAT)
    if kind is Kind.FOLDER:
        return TreeSpec(path=path.absolute())
    if kind is Kind.FILE:
        if not path.name.endswith(TARBALL_SUFFIXES):
            raise UsageError(
                f"{shown(text)} is neither a folder nor a tarball ({', '.join(TARBALL_SUFFIXES)})",
                hint=ACCEPTED,
            )
        return TarballSpec(path=path.absolute(), sha256=sha256)
    if "/" in text or text.endswith(TARBALL_SUFFIXES):
        raise UsageError(f"there is no file or folder {shown(text)}", hint=ACCEPTED)
    raise UsageError(f"unknown kernel '{shown(text)}'", hint=ACCEPTED)


def _parse_url(text: str, sha256: str | None) -> UrlSpec:
    try:
        parts = urlsplit(text)
        # Port and host are looked at when they are asked for.
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not _URL.match(text):
        raise UsageError(f"{shown(text)} is no http or https URL", hint=ACCEPTED)
    if sha256 is None:
        raise UsageError(
            f"the content of {shown(text)} must be known before it is fetched",
            hint="give --sha256 with the tarball's SHA-256",
        )
    return UrlSpec(url=text, sha256=sha256)


def _package(name: str) -> str:
    if not _PACKAGE.match(name):
        raise UsageError(
            f"'{shown(name)}' is no name of a package",
            hint="for example deb:linux-image-cloud-amd64",
        )
    return name


def _existing(text: str) -> Path:
    path = user_path(text, "the build of build:DIR")
    if kind_of(path, _WHAT) is not Kind.FOLDER:
        raise UsageError(f"there is no folder {shown(text)}", hint=ACCEPTED)
    return path.absolute()


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
