# SPDX-License-Identifier: GPL-2.0-only
"""A recording as one file: a zip archive with all that a replay needs, and a note about it."""

from __future__ import annotations

import contextlib
import errno
import lzma
import os
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.deadline import Deadline
from harness.errors import HarnessError, NoSpace, UsageError
from harness.inputs import Kind, kind_of, shown
from harness.vm.cluster.artefacts import digest_of
from harness.vm.host.accel import QEMU
from harness.vm.host.process import run
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

NOTE = "recording.json"
INPUTS: Final = "inputs"
INITRD: Final = "initrd"
IMAGE: Final = "bzImage"
VMLINUX: Final = "vmlinux"
CONSOLE: Final = "console.log"
Member = Literal["inputs", "initrd", "bzImage", "vmlinux", "console.log"]
_KERNEL = (IMAGE, VMLINUX)
_FORMAT = 1
_QUICK = 1
_ASK_S = 60.0
# A vmlinux with debug information is the largest member, with some 500 MiB; an archive of 5 MiB can
# unpack to 5 GiB. Each block is written as it comes.
_MOST_BYTES = 2 << 30
_MOST_MEMBERS = 64
_NOTE_BYTES = 4 << 20
_BLOCK = 1 << 20
# What zipfile raises for a file that is no archive, cut off, encrypted, or packed in a way unknown.
_DAMAGE = (
    *(KeyError, ValueError, EOFError, RuntimeError, NotImplementedError, RecursionError),
    *(OverflowError, struct.error, ValidationError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class RecordingNote(BaseModel):
    """The facts of a recording. ``files`` are the other members with their SHA-256 digests.

    ``kernel`` describes it, ``digest`` names it. ``qemu`` is the first line of QEMU's --version,
    ``argv`` the command line of a replay with a placeholder for the folder, ``kernel_args`` the
    words that this kernel needs to boot. ``message`` is what the trial showed (``shown``), or how
    else the kernel failed, with ``details``; None: the kernel held.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=_FORMAT, ge=_FORMAT, le=_FORMAT)
    reproducer: str
    seed: int
    kernel: str
    digest: str
    qemu: str
    argv: tuple[str, ...]
    kernel_args: tuple[str, ...] = ()
    memory_mib: int
    seconds: float
    shown: bool
    message: str | None
    details: tuple[str, ...] = ()
    files: dict[Member, str]


def kernel_member(members: Collection[str]) -> Member:
    """Return which of a recording's members QEMU starts: a vmlinux where there is no bzImage."""
    return IMAGE if IMAGE in members else VMLINUX


def qemu_version() -> str:
    """Return the first line of QEMU's --version: only that version can replay what it recorded."""
    text = run([QEMU, "--version"], deadline=Deadline.after(_ASK_S)).stdout
    return text.splitlines()[0]


def pack(target: Path, note: RecordingNote, members: Mapping[Member, Path]) -> None:
    """Write a recording, whole or not at all. Raises NoSpace, UsageError."""
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(
            aside, "w", zipfile.ZIP_DEFLATED, compresslevel=_QUICK, strict_timestamps=False
        ) as archive:
            archive.writestr(NOTE, note.model_dump_json(indent=1) + "\n")
            for name, path in members.items():
                archive.write(path, name)
        aside.replace(target)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise NoSpace(f"no space left to write {target}") from error
        raise UsageError(f"cannot write {target}: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)


def read_note(file: Path) -> RecordingNote:
    """Return the note of a recording. Raises UsageError for another or a damaged file."""
    try:
        with _opened(file) as archive:
            note = RecordingNote.model_validate_json(_read_note(archive))
            needed = (INPUTS, INITRD, kernel_member(note.files), CONSOLE)
            missing = [member for member in needed if member not in archive.namelist()]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except _DAMAGE as error:
        raise UsageError(
            f"{file} is not a recording that this klp-harness can read",
            hint="`klp-harness race record NAME -o FILE` makes one",
        ) from error
    if missing:
        raise UsageError(f"{file} is damaged: it has no {missing[0]}")
    return note


@contextlib.contextmanager
def unpacked(file: Path, note: RecordingNote) -> Iterator[Path]:
    """Unpack a recording into a folder, which is removed at the end.

    Raises UsageError for a member that is not as it was recorded, NoSpace, HarnessError.
    """
    with temporary_folder("replay") as folder:
        try:
            with _opened(file) as archive:
                room = _MOST_BYTES
                for member, digest in note.files.items():
                    target = folder / member
                    room -= _extract(archive, member, target, room)
                    if digest_of(target) != digest:
                        raise _not_as_recorded(file, note, member)
        except _DAMAGE as error:
            raise UsageError(f"{file} is damaged: {shown(error)}") from error
        except OSError as error:
            kind = NoSpace if error.errno in _NO_SPACE else HarnessError
            raise kind(f"{file} cannot be unpacked in {folder}: {error.strerror}") from error
        yield folder


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive. Raises UsageError for what is no file, and what `_DAMAGE` has."""
    if kind_of(file, "the recording") is not Kind.FILE:
        raise UsageError(f"cannot read {shown(file)}: No such file")
    with zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > _MOST_MEMBERS:
            raise zipfile.BadZipFile(f"it has more than {_MOST_MEMBERS} members")
        yield archive


def _read_note(archive: zipfile.ZipFile) -> bytes:
    with archive.open(NOTE) as member:
        note = member.read(_NOTE_BYTES + 1)
    if len(note) > _NOTE_BYTES:
        raise zipfile.BadZipFile(f"its note has more than {_NOTE_BYTES >> 20} MiB")
    return note


def _extract(archive: zipfile.ZipFile, name: str, target: Path, room: int) -> int:
    """Unpack a member, of so many bytes at most and no more than it declares; return how many."""
    declared = archive.getinfo(name).file_size
    if declared > room:
        raise zipfile.BadZipFile(f"it declares more than {_MOST_BYTES >> 30} GiB")
    done = 0
    with archive.open(name) as member, target.open("xb") as out:
        while block := member.read(_BLOCK):
            done += len(block)
            if done > declared:
                raise zipfile.BadZipFile(f"{name} is larger than it declares")
            out.write(block)
    if done != declared:
        raise zipfile.BadZipFile(f"{name} is smaller than it declares")
    return done


def _not_as_recorded(file: Path, note: RecordingNote, member: str) -> UsageError:
    if member in _KERNEL:
        return UsageError(
            f"{file} has another kernel than the one it was recorded with, which is {note.kernel}: "
            f"its {member} differs"
        )
    return UsageError(f"{file} is damaged: its {member} is not what was recorded")
