# SPDX-License-Identifier: GPL-2.0-only
"""A distribution's kernel in the cache, unpacked from packages: nothing is installed.

An entry has the parts of the kernel below ``root``, as on a system of their own (see layout.py),
and in ``drivers`` the modules that a guest loads, without compression.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import shown
from harness.vm.elf.vmlinux import read_vmlinux
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.finished_spec import Packaging
from harness.vm.kernel.headers import make_movable
from harness.vm.kernel.inventory import PACKAGES
from harness.vm.kernel.kernel import METADATA, Kernel, read_metadata
from harness.vm.kernel.layout import find_layout
from harness.vm.kernel.module_files import collect_drivers, module_index
from harness.vm.kernel.own_libraries import use_own_libraries
from harness.vm.kernel.packages import PackagedKernels
from harness.vm.kernel.prebuilt import finished_kernel
from harness.vm.kernel.rpm_archive import RpmArchive
from harness.vm.kernel.unpack import read_package, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.finished_spec import PackageFilesSpec, PackageSpec
    from harness.vm.kernel.layout import Layout
    from harness.vm.kernel.progress import Progress

FORMAT = "4"
ROOT = "root"
_DRIVERS = "drivers"
# In the names of packages of a kernel, and of those that do not hold the kernel itself.
_KERNELS = ("linux-image", "kernel")
_BESIDE = ("headers", "kbuild", "devel", "modules", "base", "dbg", "debug")
STUB_BYTES = 4096
"""Less than any System.map has: Debian's is one line that names another package."""


def kernel_from_package(
    named: PackageSpec, spec: str, *, store: Store, deadline: Deadline, progress: Progress
) -> Kernel:
    """Return the kernel of a package such as linux-image-cloud-amd64, fetched when it is not here.

    Raises UsageError when there is no such package, KernelUnfit when the kernel cannot be tested,
    DownloadFailed, MissingTool, NoSpace.
    """
    fetched = _from_rpm if named.packaging is Packaging.RPM else _from_apt
    parts, source, download = fetched(named, store, deadline, progress)
    key = entry_key(parts)

    def fill(folder: Path) -> None:
        scratch = folder / "packages"
        scratch.mkdir()
        files = download(scratch)
        progress.stage(f"unpacking {source}")
        unpack(files, named.packaging, folder / ROOT, deadline)
        shutil.rmtree(scratch)
        make_movable(folder / ROOT)
        complete_entry(folder, key=key, source=source, deadline=deadline)

    return packaged_in(store.obtain(PACKAGES, key, fill, deadline=deadline), spec)


_Fetched = tuple[list[str], str, "Callable[[Path], tuple[Path, ...]]"]


def _from_apt(named: PackageSpec, store: Store, deadline: Deadline, progress: Progress) -> _Fetched:
    archive = PackagedKernels(store.root / "packages")
    packages = archive.resolve(
        named.name, further=named.further, deadline=deadline, progress=progress
    )
    return (
        sorted(f"{p.name} {p.version} {p.sha256}" for p in packages.all),
        packages.description,
        lambda folder: archive.download(packages, folder, deadline=deadline, progress=progress),
    )


def _from_rpm(named: PackageSpec, store: Store, deadline: Deadline, progress: Progress) -> _Fetched:
    archive = RpmArchive(store.root / "packages" / "rpm")
    kernel = archive.resolve((named.name, *named.further), deadline=deadline, progress=progress)
    return (
        ["rpm", *sorted(f"{p.name} {p.version} {p.arch}" for p in kernel.packages)],
        kernel.description,
        lambda folder: archive.download(kernel, folder, deadline=deadline, progress=progress),
    )


def kernel_from_files(
    named: PackageFilesSpec, spec: str, *, store: Store, deadline: Deadline, progress: Progress
) -> Kernel:
    """Return the kernel in files of packages.

    Raises UsageError when one is damaged or a part of the kernel is missing, KernelUnfit when the
    kernel cannot be tested, MissingTool, NoSpace.
    """
    packages = [read_package(path, named.packaging, deadline) for path in named.files]
    progress.stage("reading " + ", ".join(package.path.name for package in packages[:3]))
    key = entry_key([str(named.packaging), *sorted(_sha256(path) for path in named.files)])
    packages.sort(
        key=lambda package: (
            not package.name.startswith(_KERNELS),
            any(word in package.name for word in _BESIDE),
        )
    )
    source = " and ".join(package.description for package in packages[:2])
    source += f" and {len(packages) - 2} more packages" if len(packages) > 2 else ""

    def fill(folder: Path) -> None:
        progress.stage(f"unpacking {source}")
        unpack(named.files, named.packaging, folder / ROOT, deadline)
        make_movable(folder / ROOT)
        use_own_libraries(folder / ROOT)
        complete_entry(folder, key=key, source=source, deadline=deadline)

    return packaged_in(store.obtain(PACKAGES, key, fill, deadline=deadline), spec)


def entry_key(parts: list[str]) -> str:
    """Return the name of an entry with a finished kernel, from what its content depends on."""
    return hashlib.sha256("\n".join([FORMAT, *parts]).encode()).hexdigest()[:32]


def complete_entry(folder: Path, *, key: str, source: str, deadline: Deadline) -> None:
    """Add to an unpacked kernel the drivers of a guest, and its description.

    Raises UsageError when a part is missing, KernelUnfit when a driver is.
    """
    layout = find_layout(folder / ROOT, source)
    config = KernelConfig.read(layout.config)
    require_own_vmlinux(layout, source)
    add_drivers(folder, layout, config, where=source, deadline=deadline)
    describe_entry(folder, layout, config, key=key, source=source)


def require_own_vmlinux(layout: Layout, where: str) -> None:
    """Raise UsageError when the vmlinux that was found is another release's."""
    vermagic = read_vmlinux(layout.vmlinux).vermagic if layout.vmlinux is not None else None
    release = (vermagic or layout.release).split()[0]
    if release != layout.release:
        raise UsageError(
            f"{where} is the kernel {layout.release}, and its vmlinux is that of {shown(release)}",
            hint="the package of debug information must be of the very same build",
        )


def add_drivers(
    folder: Path, layout: Layout, config: KernelConfig, *, where: str, deadline: Deadline
) -> None:
    """Write the modules that a guest of a kernel loads into an entry; see `collect_drivers`."""
    collect_drivers(
        config,
        module_index(layout.modules),
        folder / _DRIVERS,
        where=where,
        release=layout.release,
        deadline=deadline,
    )


def describe_entry(
    folder: Path,
    layout: Layout,
    config: KernelConfig,
    *,
    key: str,
    source: str,
    headers: Path | None = None,
) -> None:
    """Write the description of an entry. ``headers``: where they are, when not in the entry."""
    metadata = {
        "version": layout.release,
        "digest": key,
        "compiler": config.get("CC_VERSION_TEXT") or "an unknown compiler",
        "source": source,
        "source_digest": key,
        "headers": str(headers) if headers is not None else None,
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=1))


def packaged_in(entry: Path, spec: str) -> Kernel:
    """Return the finished kernel in a cache entry.

    Raises KernelUnfit when it cannot be tested, UsageError, HarnessError, CacheCorrupt.
    """
    metadata = read_metadata(entry)
    layout = find_layout(entry / ROOT, metadata.source, headers=metadata.headers)
    symbols = layout.symbols
    if symbols is not None and symbols.stat().st_size < STUB_BYTES:
        symbols = None
    return finished_kernel(
        KernelConfig.read(layout.config),
        spec=spec,
        where=metadata.source,
        version=metadata.version,
        digest=metadata.digest,
        source=metadata.source,
        image=layout.image,
        vmlinux=layout.vmlinux,
        symbols=symbols,
        build_dir=layout.headers,
        modules=(entry / _DRIVERS).glob("*.ko"),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
