# SPDX-License-Identifier: GPL-2.0-only
"""Which kernel: what a user types after --kernel, parsed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.inputs import Kind, kind_of, shown, user_path
from harness.vm.kernel.finished_spec import FinishedSpec, parse_finished

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = "newest"
SERIES = ("5.10", "6.1", "6.12", NEWEST)
TARBALL_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tar.zst")
ACCEPTED = (
    f"accepted are {', '.join(SERIES)} of Debian (debian:6.1), releases of kernel.org (v6.6.52, "
    "6.6), a folder with kernel sources (./linux), git:REV of the repository here or git:DIR#REV, "
    "a tarball (linux-6.6.tar.xz), a URL of a tarball with --sha256, build:DIR for a finished "
    "build, 'installed' for the running kernel, /boot/vmlinuz-X for another that is installed, and "
    "deb: or rpm: with the name of a kernel's package, or with its files"
)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_RELEASE = re.compile(r"(v?)([1-9]\d?)\.(0|[1-9]\d{0,2})(?:\.(0|[1-9]\d{0,3}))?\Z")
_CANDIDATE = re.compile(r"v?\d+\.\d+(?:\.\d+)?-(?:rc\d+|next.*)\Z")
_URL = re.compile(r"[!-~]{1,2000}\Z")
_WHAT = "the kernel"


@dataclass(frozen=True, kw_only=True)
class SeriesSpec:
    """A series that Debian has a source package of, or ``newest``."""

    series: str


@dataclass(frozen=True, kw_only=True)
class ReleaseSpec:
    """A release of kernel.org, as ``6.6.52``; or with ``newest`` the last one of a series."""

    version: str
    newest: bool = False


@dataclass(frozen=True, kw_only=True)
class GitSpec:
    """What a revision of a git repository has; the work tree, if there is one, does not count."""

    revision: str
    repository: Path


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


SourceSpec = SeriesSpec | ReleaseSpec | GitSpec | TreeSpec | TarballSpec | UrlSpec
Spec = SourceSpec | BuildSpec | FinishedSpec


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
    spec = _parse_word(text)
    if spec is not None:
        return spec
    if "://" in text:
        return _parse_url(text, sha256)
    return _parse_path(text, sha256)


def _parse_word(text: str) -> Spec | None:
    """Return what has a form of its own, whatever the file system has."""
    if text in SERIES:
        return SeriesSpec(series=text)
    if text.startswith("debian:"):
        return _of_debian(text.removeprefix("debian:"))
    if text.startswith("git:"):
        return _parse_git(text.removeprefix("git:"))
    if match := _RELEASE.match(text):
        given_v, *numbers = match.groups()
        version = ".".join(number for number in numbers if number is not None)
        return ReleaseSpec(version=version, newest=not given_v and match[4] is None)
    if text.startswith("build:"):
        return BuildSpec(path=_existing(text.removeprefix("build:")))
    finished = parse_finished(text)
    if finished is not None:
        return finished
    if _CANDIDATE.match(text):
        raise UsageError(
            f"kernel.org has no signed tarball of {shown(text)}",
            hint=f"in a clone of the repository, git:{text} takes it",
        )
    return None


def _parse_path(text: str, sha256: str | None) -> TreeSpec | TarballSpec:
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


def _of_debian(series: str) -> SeriesSpec:
    if series not in SERIES:
        raise UsageError(
            f"'{shown(series)}' is no series that Debian has a source package of",
            hint=f"debian: goes with {', '.join(SERIES)}; without it, a release is kernel.org's",
        )
    return SeriesSpec(series=series)


def _parse_git(text: str) -> GitSpec:
    folder, separator, revision = text.rpartition("#")
    if not revision or (separator and not folder):
        raise UsageError(
            f"'git:{shown(text)}' names no revision",
            hint="for example git:v6.6 in a repository, or git:./linux#v6.6 of another",
        )
    what = "the repository of git:DIR#REV"
    path = user_path(folder or ".", what)
    if kind_of(path, what) is not Kind.FOLDER:
        raise UsageError(f"there is no folder {shown(folder)}", hint=ACCEPTED)
    return GitSpec(revision=revision, repository=path.absolute())


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


def _existing(text: str) -> Path:
    path = user_path(text, "the build of build:DIR")
    if kind_of(path, _WHAT) is not Kind.FOLDER:
        raise UsageError(f"there is no folder {shown(text)}", hint=ACCEPTED)
    return path.absolute()


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
