# SPDX-License-Identifier: GPL-2.0-only
"""The image of a root file system, made in the cache of a folder, a qcow2 image or a suite."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from harness.errors import CommandFailed, DownloadFailed, HarnessError, UsageError
from harness.inputs import shown
from harness.vm.guest.disk_image import Found, find_file_system
from harness.vm.guest.root_disk import RootDisk
from harness.vm.guest.root_spec import (
    DEB,
    FolderRoot,
    ImageRoot,
    RootSpec,
    SuiteRoot,
    folder_entries,
    is_systemd,
    require_bootable,
)
from harness.vm.host.process import run
from harness.vm.host.tools import TOOLS
from harness.vm.kernel.apt import NETWORK_HINT, PrivateApt, Sources
from harness.vm.kernel.debian import sources_lists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.host.tools import Tool
    from harness.vm.kernel.progress import Progress

KIND = "rootfs"
_FORMAT = "1"
_IMAGE = "root.ext4"
_NOTE = "made"
_MIB = 1 << 20
_SPARE_BYTES = 1024 * _MIB
_PER_FILE_BYTES = 1024
_MAKE_S = 1800.0
# What a root needs to be one: init, devices, and what shows processes and modules.
_PACKAGES = ("systemd-sysv", "udev", "dbus", "procps", "kmod", "iproute2")
_SHOWN_ERRORS = 3
_NO_PACKAGE = "Unable to locate package"


def needed_tools(text: str) -> tuple[Tool, ...]:
    """Return the programs of the host that what --rootfs names needs and that it lacks."""
    # mkfs.ext4 comes with debugfs, which looks into an image.
    names = ["qemu-img", "mkfs.ext4"]
    names += ["mmdebstrap"] if text.startswith(DEB) else []
    names += ["unsquashfs"] if text.endswith((".squashfs", ".sqfs")) else []
    return tuple(tool for tool in TOOLS if tool.name in names and tool.probe() is None)


def obtain_root(
    spec: RootSpec, *, init: bool, store: Store, deadline: Deadline, progress: Progress
) -> RootDisk:
    """Return the image of a root file system, from the cache when it is there.

    Raises UsageError when it cannot be one, DownloadFailed, MissingTool, NoSpace.
    """
    match spec:
        case ImageRoot(path=path, found=Found() as found):
            return _disk(found, str(path), init=init)
        case ImageRoot():
            return _from_qcow2(spec.path, init, store, deadline, progress)
        case FolderRoot():
            return _from_folder(spec, init, store, deadline, progress)
        case SuiteRoot():
            return _from_suite(spec, init, store, deadline, progress)


def _disk(found: Found, source: str, *, init: bool) -> RootDisk:
    return RootDisk(
        image=found.image,
        file_system=found.file_system,
        size=found.size,
        offset=found.offset,
        source=source,
        init=init,
        systemd=init and is_systemd(found),
    )


def _from_qcow2(
    path: Path, init: bool, store: Store, deadline: Deadline, progress: Progress
) -> RootDisk:
    status = path.stat()
    key = _key("qcow2", str(path), status.st_size, status.st_mtime_ns, status.st_ino)

    def fill(folder: Path) -> None:
        progress.stage(f"reading the image {path.name}")
        raw = folder / "root.raw"
        run(
            ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw],
            deadline=deadline.within(_MAKE_S),
            explain=lambda _: UsageError(f"the image {shown(path)} is damaged or cut off"),
        )
        require_bootable(find_file_system(raw), path, init=False)

    entry = store.obtain(KIND, key, fill, deadline=deadline)
    found = find_file_system(entry / "root.raw")
    require_bootable(found, path, init=init)
    return _disk(found, str(path), init=init)


def _from_folder(
    spec: FolderRoot, init: bool, store: Store, deadline: Deadline, progress: Progress
) -> RootDisk:
    entries = list(folder_entries(spec.path))
    digest = hashlib.sha256()
    for name, status in entries:
        facts = (name, status.st_mode, status.st_uid, status.st_gid, status.st_size)
        digest.update(repr((*facts, status.st_mtime_ns, status.st_ctime_ns)).encode())
    key = _key("folder", str(spec.path), digest.hexdigest())

    def fill(folder: Path) -> None:
        progress.stage(f"making an ext4 file system of {spec.path}")
        sizes = (status.st_blocks * 512 for _, status in entries)
        _make_ext4(spec.path, folder / _IMAGE, sum(sizes), len(entries), deadline)

    entry = store.obtain(KIND, key, fill, deadline=deadline)
    return _disk(find_file_system(entry / _IMAGE), str(spec.path), init=init)


def _from_suite(
    spec: SuiteRoot, init: bool, store: Store, deadline: Deadline, progress: Progress
) -> RootDisk:
    named = ", ".join((f"Debian {spec.suite}", *spec.packages))

    def fill(folder: Path) -> None:
        root = folder / "root"
        _bootstrap(spec, root, store, deadline, progress)
        progress.stage(f"making an ext4 file system of {named}")
        sizes = [status.st_blocks * 512 for _, status in folder_entries(root)]
        _make_ext4(root, folder / _IMAGE, sum(sizes), len(sizes), deadline)
        shutil.rmtree(root)
        (folder / _NOTE).write_text(time.strftime("%Y-%m-%d"))

    key = _key("suite", spec.suite, *spec.packages)
    entry = store.obtain(KIND, key, fill, deadline=deadline)
    made = (entry / _NOTE).read_text()
    return _disk(find_file_system(entry / _IMAGE), f"{named} of {made}", init=init)


def _bootstrap(
    spec: SuiteRoot, root: Path, store: Store, deadline: Deadline, progress: Progress
) -> None:
    """Make the root of a suite by mmdebstrap, from the mirrors that the machine's apt has."""
    if os.geteuid() != 0:
        # Its files belong to several users, and this one cannot make a file system of them.
        raise UsageError(
            f"--rootfs {DEB}{spec.suite} is made as root alone",
            hint=f"`mmdebstrap {spec.suite} root.squashfs` makes one as any user: --rootfs "
            "root.squashfs",
        )
    progress.stage(f"asking Debian's archive for {spec.suite}")
    apt = PrivateApt(store.root / "packages" / KIND, Sources.MACHINE)
    with apt.locked(deadline):
        lists = list(sources_lists(apt, spec.suite, deadline))
    progress.stage(f"making the userland of Debian {spec.suite} (mmdebstrap, about a minute)")
    failed: tuple[str, ...] = ()
    for lines in lists:
        shutil.rmtree(root, ignore_errors=True)
        argv: list[str | Path] = [
            *("mmdebstrap", "--variant=minbase", "--architectures=amd64"),
            f"--include={','.join((*_PACKAGES, *spec.packages))}",
            '--aptopt=Acquire::Languages "none"',
            spec.suite,
            root,
            *lines,
        ]
        ran = run(argv, deadline=deadline.within(_MAKE_S), check=False)
        if ran.returncode == 0:
            return
        written = [*ran.stdout.splitlines(), *ran.stderr.splitlines()]
        failed = tuple(line for line in written if line.startswith(("E:", "W:", "Err:")))
        failed = failed or tuple(written)
        if _says(_NO_PACKAGE, failed):
            break
    raise _not_made(spec, failed)


def _not_made(spec: SuiteRoot, failed: tuple[str, ...]) -> HarnessError | UsageError:
    for line in failed:
        if _NO_PACKAGE in line:
            name = line.rpartition(" ")[2]
            return UsageError(f"--rootfs: Debian {spec.suite} has no package {shown(name)}")
    if _says("does not have a Release file", failed) or _says("404", failed):
        return UsageError(
            f"--rootfs: Debian's archive has no suite {shown(spec.suite)}",
            hint="bookworm, trixie and sid are some",
        )
    return DownloadFailed(
        f"the userland of Debian {spec.suite} could not be made",
        hint=NETWORK_HINT,
        details=failed[-_SHOWN_ERRORS:],
    )


def _says(words: str, lines: Iterable[str]) -> bool:
    return any(words in line for line in lines)


def _make_ext4(root: Path, image: Path, used: int, files: int, deadline: Deadline) -> None:
    """Write an ext4 file system with all of a folder, and with room for more, to a sparse file.

    Without a journal: a guest's disk ends with the guest.
    """
    size = used + used // 4 + files * _PER_FILE_BYTES + _SPARE_BYTES
    with image.open("wb") as file:
        file.truncate(size // _MIB * _MIB)
    run(
        [
            *("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal"),
            *("-E", "lazy_itable_init=0,root_owner=0:0", "-d", root, image),
        ],
        deadline=deadline.within(_MAKE_S),
        explain=_explained(root),
    )


def _explained(root: Path) -> Callable[[CommandFailed], HarnessError | UsageError]:
    def explain(error: CommandFailed) -> HarnessError | UsageError:
        return HarnessError(
            f"no ext4 file system could be made of {shown(root)}", details=error.details[-3:]
        )

    return explain


def _key(*parts: object) -> str:
    return hashlib.sha256(repr((_FORMAT, *parts)).encode()).hexdigest()[:32]
