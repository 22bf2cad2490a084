# SPDX-License-Identifier: GPL-2.0-only
"""Files from another machine, kept in this one's cache by the digest of their content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import CacheCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.vm.host.cache import Store

KIND = "artefact"
_CONTENT = "content"
_STORE_S = 120.0


def digest_of(path: Path) -> str:
    """Return the SHA-256 digest of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lacking(store: Store, digests: Iterable[str]) -> tuple[str, ...]:
    """Return those digests of which the cache has no undamaged content, each once."""
    return tuple(digest for digest in dict.fromkeys(digests) if store.find(KIND, digest) is None)


def artefact_path(store: Store, digest: str) -> Path:
    """Return the file with that content. Raises CacheCorrupt when the cache has none."""
    entry = store.find(KIND, digest)
    if entry is None:
        raise CacheCorrupt(f"the cache no longer has the content {digest[:12]}")
    return entry / _CONTENT


def receive(store: Store, digest: str, content: bytes) -> None:
    """Keep content that was received for a digest.

    Raises CacheCorrupt when it has another digest, NoSpace and HarnessError as `Store.obtain` does.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise CacheCorrupt(f"content {digest[:12]} was expected, and {found[:12]} was received")

    def fill(folder: Path) -> None:
        (folder / _CONTENT).write_bytes(content)

    store.obtain(KIND, digest, fill, deadline=Deadline.after(_STORE_S))
