# SPDX-License-Identifier: GPL-2.0-only
"""What --rootfs names, and whether a guest could have it as its root: looked at on the host."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.inputs import Kind, kind_of, shown, user_path
from harness.vm.guest.disk_image import Found, find_file_system, followed
from harness.vm.host.process import run
from harness.vm.kernel.layout import within

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHAT = "the root file system"
DEB = "deb:"
_WORD = re.compile(r"[a-z0-9][a-z0-9.+-]*\Z")
_LOOK_S = 60.0
_SHELL, _INIT = "bin/sh", "sbin/init"
_FORMS = "--rootfs takes a folder, an image (raw or qcow2), or deb:SUITE[,PACKAGE...]"


@dataclass(frozen=True, kw_only=True)
class FolderRoot:
    """A folder with a whole root file system."""

    path: Path
    systemd: bool


@dataclass(frozen=True, kw_only=True)
class ImageRoot:
    """An image. ``found``: what is in it, None for a qcow2 one, which has to be made raw first."""

    path: Path
    found: Found | None


@dataclass(frozen=True, kw_only=True)
class SuiteRoot:
    """A suite of Debian, with packages beside those that every such root has."""

    suite: str
    packages: tuple[str, ...]


RootSpec = FolderRoot | ImageRoot | SuiteRoot


def parse_root(text: str, *, init: bool) -> RootSpec:
    """Return what ``--rootfs`` names; with ``init`` its own init is to be process 1.

    Raises UsageError for what is not there, is damaged or has no shell or init; MissingTool.
    """
    if text.startswith(DEB):
        suite, *packages = text.removeprefix(DEB).split(",")
        if not all(_WORD.match(word) for word in (suite, *packages)):
            raise UsageError(
                f"--rootfs {shown(text)} names no suite of Debian",
                hint="deb:bookworm, or with packages: deb:bookworm,bpftrace,linux-perf",
            )
        return SuiteRoot(suite=suite, packages=tuple(sorted(set(packages))))
    path = user_path(text, _WHAT)
    match kind_of(path, _WHAT):
        case Kind.FOLDER:
            return _folder(path.resolve(), init=init)
        case Kind.FILE:
            return _image(path.resolve(), init=init)
    raise UsageError(f"--rootfs: there is no folder or file {shown(text)}", hint=_FORMS)


def _folder(path: Path, *, init: bool) -> FolderRoot:
    if path == Path("/"):
        raise UsageError("--rootfs /: the root of this machine cannot be a guest's", hint=_FORMS)
    where = f"the folder {shown(path)}"
    _require(_leads_to(path, _SHELL), _leads_to(path, _INIT), where, init=init)
    final = within(path, _INIT)
    return FolderRoot(path=path, systemd=final is not None and final.name == "systemd")


def _leads_to(root: Path, name: str) -> bool:
    final = within(root, name)
    return final is not None and final.is_file()


def _image(path: Path, *, init: bool) -> ImageRoot:
    if not os.access(path, os.R_OK):
        raise UsageError(f"the image {shown(path)} cannot be read: this user has no permission")
    if not _is_qcow2(path):
        found = find_file_system(path)
        require_bootable(found, path, init=init)
        return ImageRoot(path=path, found=found)
    listed = run(
        ["qemu-img", "info", "--output=json", path], deadline=Deadline.after(_LOOK_S), check=False
    )
    if listed.returncode != 0:
        raise _damaged(path)
    facts = json.loads(listed.stdout)
    outside = facts.get("backing-filename") or facts.get("format-specific", {}).get("data", {}).get(
        "data-file"
    )
    if outside:
        raise UsageError(
            f"the image {shown(path)} is not whole: it refers to another file, {shown(outside)}",
            hint="`qemu-img convert -O qcow2` makes one image of both",
        )
    checked = run(
        ["qemu-img", "check", "-q", "-f", "qcow2", path],
        deadline=Deadline.after(_LOOK_S),
        check=False,
    )
    # 3: clusters that nobody uses, which harm nothing (qemu-img(1)).
    if checked.returncode not in (0, 3):
        raise _damaged(path)
    return ImageRoot(path=path, found=None)


def require_bootable(found: Found, path: Path, *, init: bool) -> None:
    """Raise UsageError when a file system has no shell, or no init where that is wanted."""
    where = f"the image {shown(path)}"
    _require(followed(found, _SHELL) is not None, _has_init(found, init), where, init=init)


def _has_init(found: Found, wanted: bool) -> bool:
    return not wanted or followed(found, _INIT) is not None


def is_systemd(found: Found) -> bool:
    """Return whether the init of a file system is systemd."""
    return (followed(found, _INIT) or "").rpartition("/")[2] == "systemd"


def _require(has_shell: bool, has_init: bool, where: str, *, init: bool) -> None:
    if not has_shell:
        raise UsageError(
            f"{where} has no shell, /bin/sh: it cannot be a guest's root file system",
            hint="a distribution's root is wanted; its own shell runs what is run in the guest",
        )
    if init and not has_init:
        raise UsageError(
            f"{where} has no init, /sbin/init",
            hint="leave --rootfs-init out, and the harness's own init starts it; or install "
            "systemd-sysv there",
        )


def _is_qcow2(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"QFI\xfb"


def _damaged(path: Path) -> UsageError:
    return UsageError(f"the image {shown(path)} is damaged or cut off: qemu-img cannot read it")


def folder_entries(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all below a folder, by their paths there, in the order of their names.

    Raises UsageError for a folder of another file system, as /proc is when it is mounted there, and
    for what this user may not read.
    """
    device = root.stat().st_dev

    def refuse(error: OSError) -> None:
        raise UsageError(
            f"{shown(error.filename)} cannot be read: {error.strerror}",
            hint="a root file system is read as a whole, most often as root",
        ) from error

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        for name in (*folders, *sorted(files)):
            path = Path(folder, name)
            status = path.lstat()
            if status.st_dev != device:
                raise UsageError(
                    f"another file system is mounted at {shown(path)}: it would be copied too",
                    hint="unmount it first",
                )
            if stat.S_ISREG(status.st_mode) and not os.access(path, os.R_OK):
                refuse(PermissionError(13, "this user has no permission", str(path)))
            yield str(path.relative_to(root)), status
