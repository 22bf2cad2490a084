# SPDX-License-Identifier: GPL-2.0-only
"""The list of a cache entry's files, with what each must be when it is read back."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = ".manifest.json"
_FORMAT = 1

Record = tuple[int, int, str]
"""Size in bytes, modification time in ns, SHA-256 of the content (of the target, for a link),
empty when the content is not listed."""


def write_manifest(folder: Path, *, content: bool) -> None:
    """Write the manifest of all files below a folder, to the disk itself.

    Without ``content`` only sizes and times are listed.
    """
    records = dict(_records(folder, content=content))
    path = folder / MANIFEST
    with path.open("w") as file:
        json.dump({"format": _FORMAT, "files": records}, file)
        file.flush()
        os.fsync(file.fileno())


def _records(folder: Path, *, content: bool) -> Iterator[tuple[str, Record]]:
    # 80,000 files of kernel sources: plain strings and one stat each, not Path objects.
    start = len(str(folder)) + 1
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                # A file with other links is another entry's (a kernel's sources), and listed there.
                if status.st_nlink == 1:
                    digest = _digest(entry.path) if content else ""
                    yield entry.path[start:], (status.st_size, status.st_mtime_ns, digest)


def read_manifest(path: Path) -> dict[str, Record] | None:
    """Return a manifest's records; None when it is missing, cut off or of another format."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    files = content.get("files")
    if not isinstance(files, dict) or not all(map(_is_record, files.values())):
        return None
    return {name: (size, mtime_ns, digest) for name, (size, mtime_ns, digest) in files.items()}


def _is_record(record: object) -> bool:
    match record:
        case [int(size), int(), str()]:
            return size >= 0
    return False


def first_fault(folder: Path, manifest: dict[str, Record], *, deep: bool) -> str | None:
    """Return in words what differs from the manifest first, or None.

    A file whose size and time are as recorded is read only when ``deep`` is set.
    """
    for name, (size, mtime_ns, digest) in manifest.items():
        path = f"{folder}/{name}"
        try:
            status = os.lstat(path)
        except (OSError, ValueError):
            return f"{name!r} is missing"
        if status.st_size != size:
            return f"{name} has {status.st_size} bytes instead of {size}"
        if not digest and status.st_mtime_ns != mtime_ns:
            return f"{name} was changed"
        if digest and (deep or status.st_mtime_ns != mtime_ns) and _digest(path) != digest:
            return f"{name} has other content"
    return None


def _digest(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()  # noqa: PTH115
        raise
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
