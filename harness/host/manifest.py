# SPDX-License-Identifier: GPL-2.0-only
"""The list of a cache entry's files: what each must be when it is read back."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = ".manifest.json"
_FORMAT = 1

Record = tuple[int, int, str]
"""Size in bytes, modification time in ns, SHA-256 of the content (of the target, for a link)."""


def write_manifest(folder: Path) -> None:
    """Write the manifest of all files below a folder, to the disk itself."""
    records = dict(_records(folder))
    path = folder / MANIFEST
    with path.open("w") as file:
        json.dump({"format": _FORMAT, "files": records}, file)
        file.flush()
        os.fsync(file.fileno())


def _records(folder: Path) -> Iterator[tuple[str, Record]]:
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in files + links:
            path = Path(root, name)
            status = path.lstat()
            # A file with other links is another entry's (a kernel's sources), and in its manifest.
            if status.st_nlink == 1:
                record = (status.st_size, status.st_mtime_ns, _digest(path))
                yield str(path.relative_to(folder)), record


def read_manifest(path: Path) -> dict[str, Record] | None:
    """Return a manifest's records; None when it is missing, cut off or of another format."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    files = content["files"]
    assert isinstance(files, dict)
    return files


def first_fault(folder: Path, manifest: dict[str, Record], *, deep: bool) -> str | None:
    """Return in words what differs from the manifest first, or None.

    A file whose size and time are as recorded is read only when ``deep`` is set.
    """
    for name, (size, mtime_ns, digest) in manifest.items():
        path = folder / name
        try:
            status = os.lstat(path)
        except OSError:
            return f"{name} is missing"
        if status.st_size != size:
            return f"{name} has {status.st_size} bytes instead of {size}"
        if (deep or status.st_mtime_ns != mtime_ns) and _digest(path) != digest:
            return f"{name} has other content"
    return None


def _digest(path: Path) -> str:
    if path.is_symlink():
        return hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
