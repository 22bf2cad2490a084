# SPDX-License-Identifier: GPL-2.0-only
"""Releases of kernel.org: which there are, and what their tarballs must be.

Each folder of releases has a file with the checksums of all tarballs, signed by kernel.org's own
key. Its fingerprint is known here, so that neither the server nor where the key comes from has to
be trusted. Only what gpgv took for signed is read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.errors import DownloadFailed, HarnessError, MissingTool, UsageError
from harness.inputs import Kind, kind_of, shown, user_path
from harness.log import LOGGER
from harness.vm.host.files import read_text, replace_text
from harness.vm.host.process import find_program, run
from harness.vm.host.temporary import temporary_folder
from harness.vm.kernel.download import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.kernel.progress import Progress
    from harness.vm.kernel.spec import ReleaseSpec

BASE_VARIABLE = "KLP_HARNESS_KERNEL_ORG"
KEY_VARIABLE = "KLP_HARNESS_KERNEL_ORG_KEY"
FINGERPRINT_VARIABLE = "KLP_HARNESS_KERNEL_ORG_FINGERPRINT"
_BASE = "https://cdn.kernel.org/pub/linux/kernel"
# "Kernel.org checksum autosigner", and where its owner publishes it (a Web Key Directory: the file
# is named by a hash of the part before the @).
_FINGERPRINT = "B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1"
_KEY_URL = "https://kernel.org/.well-known/openpgpkey/hu/{hash}?l=autosigner"
_SUMS = "sha256sums.asc"
_LINE = re.compile(r"^([0-9a-f]{64})  linux-(\d+(?:\.\d+)+)\.tar\.xz$", re.M)
_MOST_BYTES = 16 << 20
_FRESH_S = 24 * 3600.0
_HINT = (
    f"{BASE_VARIABLE}=URL names a mirror, with folders such as v6.x; or give a tarball, or a URL "
    "with --sha256"
)


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release, where its tarball is, and what that must be."""

    version: str
    url: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Checksums by version, as they were signed, of one server and key."""

    base: str
    fingerprint: str
    resolved_s: float
    sha256: dict[str, str]


class KernelOrg:
    """kernel.org, or a mirror of it; what it said is kept below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base = (os.environ.get(BASE_VARIABLE) or _BASE).rstrip("/")
        self._fingerprint = _fingerprint()

    def resolve(self, spec: ReleaseSpec, *, deadline: Deadline, progress: Progress) -> Release:
        """Return the release that a spec names.

        Checksums are kept. They are asked for again when they lack the release, and for the newest
        of a series after a day; when the server cannot be reached then, the old answer is used,
        with a warning.
        Raises UsageError when there is no such release, DownloadFailed, MissingTool without gpgv.
        """
        if not self._base.startswith(("http://", "https://")):
            raise UsageError(f"{BASE_VARIABLE} is no http or https URL: {shown(self._base)}")
        major = spec.version.partition(".")[0]
        record = self._folder / f"v{major}.json"
        known = self._known(record)
        is_fresh = known is not None and time.time() - known.resolved_s < _FRESH_S
        version = _chosen(spec, known)
        if known is None or version is None or (spec.newest and not is_fresh):
            progress.stage(f"asking {self._base} for the releases of v{major}.x")
            try:
                known = self._ask(major, deadline, progress)
            except DownloadFailed as error:
                if known is None or version is None:
                    raise
                LOGGER.warning("%s; using linux-%s as found before", error.message, version)
            else:
                self._folder.mkdir(parents=True, exist_ok=True)
                replace_text(record, TypeAdapter(_Sums).dump_json(known).decode())
                version = _chosen(spec, known)
        if version is None:
            what = (
                f"no release of the series {spec.version}"
                if spec.newest
                else (f"no release {spec.version}")
            )
            raise UsageError(
                f"{self._base}/v{major}.x has {what}", hint="https://kernel.org lists the releases"
            )
        return Release(
            version=version,
            url=f"{self._base}/v{major}.x/linux-{version}.tar.xz",
            sha256=known.sha256[version],
        )

    def _known(self, record: Path) -> _Sums | None:
        try:
            known = TypeAdapter(_Sums).validate_json(read_text(record) or "")
        except ValueError:
            return None
        same = known.base == self._base and known.fingerprint == self._fingerprint
        return known if same else None

    def _ask(self, major: str, deadline: Deadline, progress: Progress) -> _Sums:
        with temporary_folder("kernel-org") as scratch:
            signed = scratch / _SUMS
            url = f"{self._base}/v{major}.x/{_SUMS}"
            _fetch(url, signed, deadline, progress)
            text = self._verified(signed, url, scratch, deadline, progress)
        found = {version: digest for digest, version in _LINE.findall(text)}
        if not found:
            raise DownloadFailed(f"{url} lists no release", hint=_HINT)
        return _Sums(
            base=self._base,
            fingerprint=self._fingerprint,
            resolved_s=time.time(),
            sha256=found,
        )

    def _verified(
        self, signed: Path, url: str, scratch: Path, deadline: Deadline, progress: Progress
    ) -> str:
        """Return the text that the key has signed, and nothing else of the file."""
        try:
            gpgv = find_program("gpgv")
        except MissingTool as error:
            raise MissingTool(
                f"{error.message}: without it the checksums of kernel.org cannot be verified",
                hint="Debian, Ubuntu: apt-get install gpgv; or give a URL with --sha256",
            ) from error
        keyring = scratch / "key.gpg"
        keyring.write_bytes(self._key(scratch, deadline, progress))
        text = scratch / "text"
        said = run(
            [gpgv, "--status-fd=1", f"--keyring={keyring}", f"--output={text}", signed],
            deadline=deadline,
            env={**os.environ, "LC_ALL": "C", "GNUPGHOME": str(scratch)},
            check=False,
        )
        valid = [line.split() for line in said.stdout.splitlines() if " VALIDSIG " in line]
        # The last word is the fingerprint of the primary key.
        is_right = [line[-1] for line in valid] == [self._fingerprint]
        if said.returncode != 0 or not is_right or not text.is_file():
            raise DownloadFailed(
                f"{url} is not signed by the key {self._fingerprint}: nothing of it is used",
                hint=f"a mirror may have an old or damaged copy; {_HINT}",
                details=tuple(said.stderr.splitlines()[-3:]),
            )
        return text.read_text(errors="replace")

    def _key(self, scratch: Path, deadline: Deadline, progress: Progress) -> bytes:
        named = os.environ.get(KEY_VARIABLE)
        if named:
            what = f"the key of {KEY_VARIABLE}"
            path = user_path(named, what)
            if kind_of(path, what) is not Kind.FILE:
                raise UsageError(f"{KEY_VARIABLE} names no file: {shown(named)}")
            return _dearmored(path.read_bytes())
        file = scratch / "fetched"
        _fetch(_KEY_URL.format(hash=_wkd_hash("autosigner")), file, deadline, progress)
        return _dearmored(file.read_bytes())


def _chosen(spec: ReleaseSpec, known: _Sums | None) -> str | None:
    if known is None:
        return None
    if not spec.newest:
        return spec.version if spec.version in known.sha256 else None
    wanted = _numbers(spec.version)
    of_series = [v for v in known.sha256 if _numbers(v)[: len(wanted)] == wanted]
    return max(of_series, key=_numbers, default=None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _fingerprint() -> str:
    named = os.environ.get(FINGERPRINT_VARIABLE)
    if not named:
        return _FINGERPRINT
    fingerprint = named.replace(" ", "").upper()
    if not re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", fingerprint):
        raise UsageError(
            f"{FINGERPRINT_VARIABLE} is no fingerprint of a key: {shown(named)}",
            hint="that is 40 hexadecimal digits: gpg --fingerprint prints it",
        )
    return fingerprint


def _fetch(url: str, file: Path, deadline: Deadline, progress: Progress) -> None:
    try:
        fetch(url, file, deadline, progress, at_most=_MOST_BYTES)
    except DownloadFailed as error:
        raise DownloadFailed(error.message, hint=error.hint or _HINT) from error


def _dearmored(key: bytes) -> bytes:
    """Return a public key as gpgv reads it; armor is base64 with a checksum line (RFC 4880, 6)."""
    begin = key.find(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")
    if begin < 0:
        return key
    lines = key[begin:].splitlines()[1:]
    while lines and lines[0].strip():
        lines.pop(0)  # headers, up to the empty line
    body = []
    for line in lines:
        if line.startswith((b"=", b"-----")):
            break
        body.append(line.strip())
    try:
        return base64.b64decode(b"".join(body), validate=True)
    except ValueError as error:
        raise HarnessError("the public key that signs kernel.org's checksums is damaged") from error


def _wkd_hash(name: str) -> str:
    """Return a Web Key Directory's name for a user: SHA-1 in z-base-32."""
    number = int.from_bytes(hashlib.sha1(name.encode(), usedforsecurity=False).digest(), "big")
    alphabet = "ybndrfg8ejkmcpqxot1uwisza345h769"
    return "".join(alphabet[number >> shift & 31] for shift in range(155, -5, -5))
