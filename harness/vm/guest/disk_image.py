# SPDX-License-Identifier: GPL-2.0-only
"""What is in a raw image of a disk: partitions and a file system, read and never mounted.

e2fsprogs and squashfs-tools read the file systems; the tables of partitions are GPT (UEFI
specification, chapter 5) and that of a master boot record.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from uuid import UUID

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.inputs import shown
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SECTOR = 512
_LOOK_S = 60.0
_MOST_LINKS = 20
_MOST_PARTITIONS = 128
# What systemd and Debian's images call a root of this machine, and any file system of Linux.
_ROOT_TYPE = UUID("4f68bce3-e8cd-4db1-96e7-fbcafb984709")
_LINUX_TYPE = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_MBR_LINUX = 0x83
_EXT_BLOCKS_AT, _EXT_MAGIC_AT, _EXT_MAGIC = 1024 + 4, 1024 + 0x38, 0xEF53
_EXT_BLOCK_SIZE_AT, _EXT_INCOMPAT_AT, _EXT_64BIT = 1024 + 0x18, 1024 + 0x60, 0x80
_EXT_BLOCKS_HIGH_AT = 1024 + 0x150
_SQUASHFS_USED_AT = 40
_LINK = re.compile(r'link dest: "([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file system in an image, ``size`` bytes from ``offset`` on."""

    image: Path
    file_system: str
    offset: int
    size: int


def find_file_system(image: Path) -> Found:
    """Return the root file system in a raw image: the whole of it, or its largest partition.

    A partition that says it is a root comes first. Raises UsageError.
    """
    size = image.stat().st_size
    candidates = [(0, size), *_partitions(image, size)]
    for offset, length in candidates:
        kind = _kind(image, offset, length)
        if kind is not None:
            return Found(image=image, file_system=kind, offset=offset, size=length)
    raise UsageError(
        f"the image {shown(image)} has no file system of a kind that is known",
        hint="ext4 and squashfs are, alone or in a partition, in a raw image or in a qcow2 one",
    )


def _kind(image: Path, offset: int, size: int) -> str | None:
    """Return the kind of file system there; raises UsageError when it is cut off."""
    head = _read(image, offset, 4096)
    if len(head) < 2048:
        return None
    kind, needed = None, 0
    if head[:4] == b"hsqs":
        kind, needed = "squashfs", _number(head, _SQUASHFS_USED_AT, "<Q")
    elif _number(head, _EXT_MAGIC_AT, "<H") == _EXT_MAGIC:
        blocks = _number(head, _EXT_BLOCKS_AT, "<I")
        if _number(head, _EXT_INCOMPAT_AT, "<I") & _EXT_64BIT:
            blocks |= _number(head, _EXT_BLOCKS_HIGH_AT, "<I") << 32
        kind, needed = "ext4", blocks << (10 + min(_number(head, _EXT_BLOCK_SIZE_AT, "<I"), 6))
    if needed > size:
        raise UsageError(
            f"the image {shown(image)} is cut off: its {kind} has {needed} bytes, and {size} are "
            "there"
        )
    return kind


def _partitions(image: Path, size: int) -> Iterator[tuple[int, int]]:
    head = _read(image, 0, 2 * _SECTOR)
    if head[510:512] != b"\x55\xaa":
        return
    found: list[tuple[bool, int, int]] = []
    if head[_SECTOR : _SECTOR + 8] == b"EFI PART":
        first, count, length = struct.unpack_from("<QII", head, _SECTOR + 72)
        if not 128 <= length <= 4096:
            return
        entries = _read(image, first * _SECTOR, min(count, _MOST_PARTITIONS) * length)
        for at in range(0, len(entries) - 127, length):
            kind = UUID(bytes_le=entries[at : at + 16])
            begin, last = struct.unpack_from("<QQ", entries, at + 32)
            if kind in (_ROOT_TYPE, _LINUX_TYPE):
                found.append((kind == _ROOT_TYPE, last + 1 - begin, begin))
    else:
        for at in range(446, 510, 16):
            begin, sectors = struct.unpack_from("<II", head, at + 8)
            if head[at + 4] == _MBR_LINUX:
                found.append((False, sectors, begin))
    for _, sectors, begin in sorted(found, reverse=True):
        if sectors > 0 and (begin + sectors) * _SECTOR <= size:
            yield begin * _SECTOR, sectors * _SECTOR


def _read(image: Path, offset: int, size: int) -> bytes:
    with image.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _number(data: bytes, at: int, form: str) -> int:
    return int(struct.unpack_from(form, data, at)[0])


def followed(found: Found, name: str) -> str | None:
    """Return to which file a path leads in a file system, links followed; None if to none.

    Raises UsageError when the file system is damaged, MissingTool.
    """
    todo, done = list(reversed(PurePosixPath(name).parts)), PurePosixPath("/")
    links = 0
    while todo:
        part = todo.pop()
        if part in ("/", "..", "."):
            done = {"/": PurePosixPath("/"), "..": done.parent, ".": done}[part]
            continue
        entry = _entry(found, done / part)
        if entry is None:
            return None
        if not entry:
            done /= part
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        todo += reversed(PurePosixPath(entry).parts)
    return str(done)


def _entry(found: Found, path: PurePosixPath) -> str | None:
    """Return where a link leads, an empty text for another entry, None where there is none."""
    return _in_ext4(found, path) if found.file_system == "ext4" else _in_squashfs(found, path)


def _in_ext4(found: Found, path: PurePosixPath) -> str | None:
    place = f"{found.image}?offset={found.offset}" if found.offset else str(found.image)
    ran = run(["debugfs", "-R", f"stat {path}", place], deadline=_deadline(), check=False)
    if "File not found" in ran.stderr:
        return None
    if "Inode:" not in ran.stdout:
        raise UsageError(
            f"the ext4 file system in {shown(found.image)} is damaged",
            details=tuple(ran.stderr.splitlines()[1:4]),
        )
    match = _LINK.search(ran.stdout)
    return match[1] if match is not None else ""


def _in_squashfs(found: Found, path: PurePosixPath) -> str | None:
    name = str(path).lstrip("/")
    listed = run(
        ["unsquashfs", "-lln", "-o", str(found.offset), found.image, name],
        deadline=_deadline(),
        check=False,
    )
    if listed.returncode != 0 and "FATAL" in listed.stderr + listed.stdout:
        raise UsageError(f"the squashfs in {shown(found.image)} is damaged or cut off")
    for line in listed.stdout.splitlines():
        entry, arrow, target = line.partition(" -> ")
        if entry.endswith(f"squashfs-root/{name}"):
            return target if arrow else ""
    return None


def _deadline() -> Deadline:
    return Deadline.after(_LOOK_S)
