# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources: from what the user named to a clean tree in the cache.

`located` finds out what the content is, without fetching or unpacking it; `obtain_source` makes
the cache entry. A build always uses the entry, never the user's own tree: that may change under it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DownloadFailed, HarnessError, UsageError
from harness.inputs import shown
from harness.vm.host.files import odd_files
from harness.vm.host.process import run
from harness.vm.kernel.debian import DebianArchive
from harness.vm.kernel.download import fetch
from harness.vm.kernel.releases import KernelOrg
from harness.vm.kernel.revision import revision
from harness.vm.kernel.spec import (
    GitSpec,
    ReleaseSpec,
    SeriesSpec,
    SourceSpec,
    TarballSpec,
    UrlSpec,
)
from harness.vm.kernel.tree import opened, source_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

KIND = "source"
TREE = "linux"
# As root, tar would keep owners, and the bits of set-user-ID programs.
_TAR = ("tar", "--extract", "--no-same-owner", "--no-same-permissions")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Sources whose content is known, though it may not have been fetched yet.

    ``description`` names in words where they are from; ``fill`` writes the tree to a folder that
    does not exist. ``changes`` is set for a tree that somebody works in, whose next state will be
    built as well.
    """

    digest: str
    description: str
    changes: bool = False
    fill: Callable[[Path], None]


@contextlib.contextmanager
def located(
    spec: SourceSpec,
    *,
    store: Store,
    deadline: Deadline,
    progress: Progress,
) -> Iterator[Source]:
    """Give the sources that a spec names, for as long as the block lasts.

    Raises UsageError (no kernel tree, no such release or revision, wrong sha256), DownloadFailed
    (it cannot be found out what the archive has), HarnessError.
    """
    if isinstance(spec, SeriesSpec):
        yield _from_debian(spec, store, deadline, progress)
    elif isinstance(spec, TarballSpec):
        yield _from_tarball(spec, deadline, progress)
    elif isinstance(spec, UrlSpec):
        yield _from_url(spec, deadline, progress)
    elif isinstance(spec, ReleaseSpec):
        archive = KernelOrg(store.root / "kernel.org")
        release = archive.resolve(spec, deadline=deadline, progress=progress)
        tarball = UrlSpec(url=release.url, sha256=release.sha256)
        yield replace(
            _from_url(tarball, deadline, progress),
            description=f"linux-{release.version} of kernel.org",
        )
    elif isinstance(spec, GitSpec):
        with revision(spec, deadline) as found:
            yield Source(
                digest=found.tree,
                description=found.description,
                fill=lambda destination: found.copy_to(destination, deadline),
            )
    else:
        with opened(spec.path, deadline) as tree:
            yield Source(
                digest=tree.digest,
                description=f"the tree {spec.path}",
                changes=True,
                fill=lambda destination: tree.copy_to(destination, deadline),
            )


def obtain_source(source: Source, *, store: Store, deadline: Deadline, progress: Progress) -> Path:
    """Return the clean tree in the cache. Raises as `Store.obtain` does, and as ``fill`` does."""

    def fill(folder: Path) -> None:
        progress.stage(f"unpacking {source.description}")
        source.fill(folder / TREE)
        source_version(folder / TREE)

    return store.obtain(KIND, source.digest, fill, deadline=deadline, content=False) / TREE


def _from_debian(spec: SeriesSpec, store: Store, deadline: Deadline, progress: Progress) -> Source:
    archive = DebianArchive(store.root / "debian")
    package = archive.resolve(spec.series, deadline=deadline, progress=progress)

    def fill(destination: Path) -> None:
        with _scratch(destination) as scratch:
            file = archive.download(
                spec.series, package, scratch, deadline=deadline, progress=progress
            )
            progress.stage(f"unpacking {package.description}")
            run(["dpkg-deb", "-x", file, scratch / "unpacked"], deadline=deadline)
            file.unlink()
            tarballs = list(scratch.glob("unpacked/usr/src/linux-source-*.tar.*"))
            if len(tarballs) != 1:
                raise HarnessError(f"{package.description} holds {len(tarballs)} source archives")
            _unpack(tarballs[0], destination, deadline)

    digest = package.checksum.partition(":")[2]
    return Source(digest=digest, description=package.description, fill=fill)


def _from_tarball(spec: TarballSpec, deadline: Deadline, progress: Progress) -> Source:
    progress.stage(f"reading {spec.path.name}")
    try:
        with spec.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{spec.path} cannot be read: {error.strerror}") from error
    if spec.sha256 is not None and digest != spec.sha256:
        raise UsageError(
            f"{spec.path} has the SHA-256 {digest}, not {spec.sha256}",
            hint="the file is damaged or another one: fetch it again",
        )

    return Source(
        digest=digest,
        description=f"the tarball {spec.path.name}",
        fill=lambda destination: _unpack(spec.path, destination, deadline),
    )


def _from_url(spec: UrlSpec, deadline: Deadline, progress: Progress) -> Source:
    # Its suffix tells tar what it is; the rest may be longer than a file's name.
    name = (spec.url.partition("?")[0].rpartition("/")[2] or "tarball")[-100:]

    def fill(destination: Path) -> None:
        with _scratch(destination) as scratch:
            file = scratch / name
            progress.stage(f"fetching {spec.url}")
            fetch(spec.url, file, deadline, progress)
            tarball = _from_tarball(TarballSpec(path=file, sha256=None), deadline, progress)
            if tarball.digest != spec.sha256:
                raise DownloadFailed(
                    f"{spec.url} has the SHA-256 {tarball.digest}, not {spec.sha256}",
                    hint="the file there is another one, or --sha256 is wrong; it was not kept",
                )
            tarball.fill(destination)

    return Source(digest=spec.sha256, description=spec.url, fill=fill)


def _unpack(tarball: Path, destination: Path, deadline: Deadline) -> None:
    """Unpack an archive with one folder at its top, and make that folder the destination."""
    with _scratch(destination) as scratch:
        run(
            [*_TAR, "--file", tarball, "--directory", scratch],
            deadline=deadline,
            # Debian's archives have many blocks; xz from 5.4 unpacks them on all CPUs.
            env={**os.environ, "XZ_DEFAULTS": "--threads=0"},
            explain=lambda error: UsageError(
                f"{tarball} cannot be unpacked: it is cut off, damaged or no tar archive",
                hint="fetch it again, and compare its SHA-256 with --sha256",
                details=error.details[-3:],
            ),
        )
        top = [path for path in scratch.iterdir() if path.is_dir()]
        if len(top) != 1:
            raise UsageError(
                f"{tarball.name} is no kernel tarball: "
                f"it has {len(top)} folders at its top, not one"
            )
        odd = next(odd_files(top[0]), None)
        if odd is not None:
            raise UsageError(
                f"{tarball.name} is no kernel tarball: {shown(odd.relative_to(top[0]))} in it is a "
                "pipe, a socket or a device"
            )
        top[0].rename(destination)


@contextlib.contextmanager
def _scratch(destination: Path) -> Iterator[Path]:
    """Give a temporary folder on the file system of the destination."""
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix="scratch-") as name:
        yield Path(name)
