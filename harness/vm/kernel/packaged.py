# SPDX-License-Identifier: GPL-2.0-only
"""A distribution's packaged kernel, unpacked into the cache: nothing is installed.

Its headers package has the paths of an installed system in it; the copy in the cache is changed so
that it may lie anywhere.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.vm.host.process import run
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.inventory import PACKAGES
from harness.vm.kernel.kernel import METADATA, Kernel, read_metadata
from harness.vm.kernel.packages import PackagedKernels
from harness.vm.kernel.prebuilt import finished_kernel

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

_FORMAT = "1"
_ROOT = "root"
_IMAGE = "boot/vmlinuz-*"
_CONFIG = "boot/config-*"
_SYSTEM_SOURCES = re.compile(r"^include /usr/src/", re.MULTILINE)
_HERE = "include $(dir $(lastword $(MAKEFILE_LIST)))../"


def kernel_from_package(
    named: str, spec: str, *, store: Store, deadline: Deadline, progress: Progress
) -> Kernel:
    """Return the kernel of a package such as linux-image-cloud-amd64, fetched when it is not here.

    Raises UsageError when there is no such package, KernelUnfit when the kernel cannot be tested,
    DownloadFailed, MissingTool, NoSpace.
    """
    archive = PackagedKernels(store.root / "packages")
    packages = archive.resolve(named, deadline=deadline, progress=progress)
    parts = sorted(f"{p.name} {p.version} {p.sha256}" for p in packages.all)
    key = hashlib.sha256("\n".join([_FORMAT, *parts]).encode()).hexdigest()[:32]

    def fill(folder: Path) -> None:
        scratch = folder / "debs"
        scratch.mkdir()
        files = archive.download(packages, scratch, deadline=deadline, progress=progress)
        progress.stage(f"unpacking {packages.description}")
        root = folder / _ROOT
        for file in files:
            run(["dpkg-deb", "-x", file, root], deadline=deadline)
        shutil.rmtree(scratch)
        _make_movable(root)
        config = KernelConfig.read(_only(root, _CONFIG, packages.description))
        metadata = {
            "version": _only(root, _IMAGE, packages.description).name.removeprefix("vmlinuz-"),
            "digest": key,
            "compiler": config.get("CC_VERSION_TEXT") or "an unknown compiler",
            "source": packages.description,
            "source_digest": key,
        }
        (folder / METADATA).write_text(json.dumps(metadata, indent=1))

    entry = store.obtain(PACKAGES, key, fill, deadline=deadline)
    return packaged_in(entry, spec)


def _make_movable(root: Path) -> None:
    """Change what was unpacked so that it works where it lies: headers, and packed modules."""
    for makefile in root.glob("usr/src/linux-headers-*/Makefile"):
        text = makefile.read_text()
        makefile.write_text(_SYSTEM_SOURCES.sub(_HERE, text))
    for packed in root.rglob("*.ko.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()


def packaged_in(entry: Path, spec: str) -> Kernel:
    """Return the packaged kernel in a cache entry.

    Raises KernelUnfit when it cannot be tested, HarnessError, CacheCorrupt.
    """
    metadata = read_metadata(entry)
    where, version, digest = metadata.source, metadata.version, metadata.digest
    root = entry / _ROOT
    build_dir = root / f"usr/src/linux-headers-{version}"
    if not (build_dir / "Makefile").is_file():
        raise HarnessError(f"{where} has no headers in the usual place")
    return finished_kernel(
        KernelConfig.read(_only(root, _CONFIG, where)),
        spec=spec,
        where=where,
        version=version,
        digest=digest,
        source=where,
        image=_only(root, _IMAGE, where),
        vmlinux=None,
        build_dir=build_dir,
        modules=root.glob(f"**/lib/modules/{version}/**/*.ko"),
    )


def _only(root: Path, pattern: str, where: str) -> Path:
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        raise HarnessError(f"{where} has {len(found)} files {pattern}, not one")
    return found[0]
