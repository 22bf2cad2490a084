# SPDX-License-Identifier: GPL-2.0-only
"""A content-addressed store of what is slow to make: sources, kernels, modules.

An entry is a folder ``root/<kind>/<key>/`` that never changes once it is there. It is filled aside
under a lock, gets a manifest of its files, and is renamed into place, so that a reader sees the
whole entry or none. Beside it lie ``<key>.lock`` (held while it is filled), ``<key>.owner`` (who
fills it) and ``<key>.used`` (last use; every user holds a shared lock on it, so that `remove`
removes no entry that a running process uses). All locks are flock(2): they end with their process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import CacheCorrupt, HarnessError, NoSpace
from harness.log import LOGGER
from harness.vm.host.files import TRASH, boot_id, locked, read_text, remove_folder
from harness.vm.host.last_use import Ages, LastUse, note_use, read_use
from harness.vm.host.manifest import MANIFEST, first_fault, read_manifest, write_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.deadline import Deadline

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_PARTIAL = ".partial-"
# Smaller files are not looked at for holes: a kernel's build has many thousand.
_LARGE_BYTES = 64 << 20
_BLOCK_BYTES = 512  # of st_blocks (stat(2))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry. ``size_bytes`` is None when it is damaged, so that it is made again when needed."""

    kind: str
    key: str
    path: Path
    size_bytes: int | None
    last_use: LastUse


class Store:
    """The cache below one folder; see the module's description."""

    def __init__(self, root: Path) -> None:
        # Absolute, because builds run in other folders; not resolved, so that paths stay as typed.
        self.root = Path(os.path.abspath(root))  # noqa: PTH100
        # The descriptors of this store's shared locks, by kind and key. They stay open when the
        # store is forgotten, so that an entry stays as long as the process that obtained it.
        self._held: dict[tuple[str, str], int] = {}
        self._holding = threading.Lock()

    def obtain(
        self,
        kind: str,
        key: str,
        fill: Callable[[Path], None],
        *,
        deadline: Deadline,
        on_wait: Callable[[], None] | None = None,
        content: bool = True,
    ) -> Path:
        """Return the folder of an entry, made by ``fill(folder)`` when it is not there yet.

        One process fills, others wait for it and call ``on_wait`` once before they do. An entry
        that does not match its manifest is made again. What a killed process left is removed.
        Without ``content`` sizes and times are verified alone: reading 80,000 unpacked sources
        once more costs ten seconds of CPU time.
        The entry stays until this process ends, or `release` is called.
        Raises NoSpace, HarnessError when the lock does not come before the deadline or the folder
        cannot be written, CacheCorrupt when the entry cannot be read back, and whatever ``fill``
        raises.
        """
        folder = self._folder(kind, key)
        with _disk_errors(folder.path.parent):
            self._prepare(kind)
            self._hold(folder)
            if self._is_sound(folder):
                return folder.path
            with self._locked(folder, deadline, on_wait):
                if not self._is_sound(folder):
                    self._discard_unsound(folder)
                    self._fill(folder, fill, content=content)
        return folder.path

    def find(self, kind: str, key: str) -> Path | None:
        """Return the folder of a complete and sound entry and keep it, or None."""
        folder = self._folder(kind, key)
        if not folder.manifest.is_file():
            return None
        with _disk_errors(folder.path.parent):
            self._hold(folder)
            return folder.path if self._is_sound(folder) else None

    def release(self, kind: str, key: str) -> None:
        """Allow other processes to remove an entry that this one obtained."""
        with self._holding:
            descriptor = self._held.pop((kind, key), None)
        if descriptor is not None:
            os.close(descriptor)

    def kinds(self) -> list[str]:
        """Return the kinds of which there is a complete entry, in the order of their names."""
        return sorted({path.parent.parent.name for path in self.root.glob(f"*/*/{MANIFEST}")})

    def entries(self, kind: str) -> list[Entry]:
        """Return the sound entries of one kind, the last used first; warn of the others."""
        found = self._entries(kind)
        for entry in found:
            if entry.size_bytes is None:
                LOGGER.warning("the cache entry %s/%s is damaged or unreadable", kind, entry.key)
        return [entry for entry in found if entry.size_bytes is not None]

    def damaged(self, kind: str) -> list[Entry]:
        """Return the entries of one kind of which the manifest cannot be read."""
        return [entry for entry in self._entries(kind) if entry.size_bytes is None]

    def ages(self) -> Ages:
        """Return how long ago the entries were used, by what is known of the clock."""
        uses = []
        for file in self.root.glob("*/*.used"):
            with contextlib.suppress(OSError):
                uses.append(read_use(file))
        return Ages(uses)

    def _entries(self, kind: str) -> list[Entry]:
        found = []
        for manifest_path in self.root.joinpath(kind).glob(f"*/{MANIFEST}"):
            path = manifest_path.parent
            if not _NAME.match(path.name):
                continue
            try:
                last_use = _last_use(path, manifest_path)
            except OSError:
                continue  # removed meanwhile
            manifest = read_manifest(manifest_path)
            size = None
            if manifest is not None:
                size = sum(_on_disk(path / name, record[0]) for name, record in manifest.items())
            found.append(
                Entry(kind=kind, key=path.name, path=path, size_bytes=size, last_use=last_use)
            )
        return sorted(found, key=lambda entry: entry.last_use.at_s, reverse=True)

    def remove(self, kind: str, key: str) -> bool:
        """Remove an entry; return False, and leave it, when a process uses or fills it.

        Raises HarnessError when the file system refuses.
        """
        folder = self._folder(kind, key)
        with (
            _disk_errors(folder.path.parent),
            contextlib.suppress(Timeout),
            FileLock(folder.lock).acquire(timeout=0),
        ):
            self.release(kind, key)
            return self._remove_unused(folder)
        return False

    def sweep(self) -> int:
        """Remove the unfinished folders of killed processes; return how many there were."""
        count = 0
        for left in [*self.root.glob(f"*/{_PARTIAL}*"), *self.root.glob(f"*/{TRASH}*")]:
            key = left.name.removeprefix(_PARTIAL).removeprefix(TRASH).rpartition("~")[0]
            lock = FileLock(left.with_name(key + ".lock"))
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                shutil.rmtree(left, ignore_errors=True)
                count += 1
        return count

    def _folder(self, kind: str, key: str) -> _Folder:
        for name in (kind, key):
            if not _NAME.match(name):
                raise ValueError(f"{name!r} is no name for a cache entry")
        return _Folder(kind, key, self.root / kind / key)

    def _prepare(self, kind: str) -> None:
        (self.root / kind).mkdir(parents=True, exist_ok=True)
        tag = self.root / "CACHEDIR.TAG"
        if not tag.exists():
            tag.write_text("Signature: 8a477f597d28d172789f06886806bc55\n")

    def _hold(self, folder: _Folder) -> None:
        name = (folder.kind, folder.key)
        with self._holding:
            if name not in self._held:
                self._held[name] = _shared_lock(folder.used)
            note_use(self._held[name])

    def _is_sound(self, folder: _Folder) -> bool:
        manifest = read_manifest(folder.manifest)
        if manifest is None:
            return False
        # After a crash of the host a file may have its size and not its content: read all once.
        deep = read_text(folder.checked) != boot_id()
        fault = first_fault(folder.path, manifest, deep=deep)
        if fault is not None:
            LOGGER.warning("the cache entry %s/%s is damaged (%s)", folder.kind, folder.key, fault)
            return False
        if deep:
            folder.checked.write_text(boot_id())
        return True

    @contextlib.contextmanager
    def _locked(
        self, folder: _Folder, deadline: Deadline, on_wait: Callable[[], None] | None
    ) -> Iterator[None]:
        def busy() -> str:
            owner = read_text(folder.owner) or "another process"
            return f"{owner} still makes {folder.kind}/{folder.key}"

        def announce() -> None:
            LOGGER.info("waiting: %s", busy())
            if on_wait is not None:
                on_wait()

        with locked(folder.lock, deadline, busy=busy, on_wait=announce):
            folder.owner.write_text(f"process {os.getpid()} ({_command()})")
            yield
            folder.owner.unlink(missing_ok=True)

    def _fill(self, folder: _Folder, fill: Callable[[Path], None], *, content: bool) -> None:
        for left in folder.path.parent.glob(f"{_PARTIAL}{folder.key}~*"):
            shutil.rmtree(left, ignore_errors=True)
        self.sweep()
        aside = folder.path.with_name(f"{_PARTIAL}{folder.key}~{secrets.token_hex(4)}")
        aside.mkdir()
        try:
            fill(aside)
            write_manifest(aside, content=content)
            aside.rename(folder.path)
            _sync_folder(folder.path.parent)
        finally:
            if aside.exists():
                shutil.rmtree(aside, ignore_errors=True)
        folder.checked.write_text(boot_id())
        if read_manifest(folder.manifest) is None:
            raise CacheCorrupt(f"the cache entry {folder.path} cannot be read back")

    def _remove_unused(self, folder: _Folder) -> bool:
        descriptor = os.open(folder.used, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            remove_folder(folder.path)
            folder.used.unlink(missing_ok=True)
            folder.owner.unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)

    def _discard_unsound(self, folder: _Folder) -> None:
        if os.path.lexists(folder.path):
            LOGGER.warning("making the cache entry %s/%s again", folder.kind, folder.key)
            remove_folder(folder.path)


class _Folder:
    """The files that belong to one entry."""

    def __init__(self, kind: str, key: str, path: Path) -> None:
        self.kind = kind
        self.key = key
        self.path = path
        self.manifest = path / MANIFEST
        # In which boot of the host the contents were last read and found right.
        self.checked = path / ".checked"
        self.lock = path.with_name(f"{key}.lock")
        self.owner = path.with_name(f"{key}.owner")
        self.used = path.with_name(f"{key}.used")


def _on_disk(path: Path, size: int) -> int:
    """Return what a file takes on the disk: the image of a disk is larger than what is in it."""
    if size < _LARGE_BYTES:
        return size
    with contextlib.suppress(OSError):
        return min(size, path.stat().st_blocks * _BLOCK_BYTES)
    return size


def _last_use(entry: Path, manifest: Path) -> LastUse:
    try:
        return read_use(entry.with_name(entry.name + ".used"))
    except FileNotFoundError:
        return LastUse(at_s=manifest.stat().st_mtime, since_boot_s=None)


def _shared_lock(path: Path) -> int:
    """Return an open descriptor of the file with a shared lock on it.

    The file may be removed between open and lock; then the lock is worth nothing: try again.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        try:
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"there is no space left for the cache in {folder}",
                hint="`klp-harness kernel prune` removes kernels that are not in use; "
                "KLP_HARNESS_CACHE moves the cache",
            ) from error
        if isinstance(error, PermissionError | FileExistsError) or error.errno == errno.EROFS:
            raise HarnessError(
                f"the cache in {folder} cannot be written: {error}",
                hint="KLP_HARNESS_CACHE names another folder for it",
            ) from error
        raise HarnessError(f"the cache in {folder} cannot be filled: {error}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _command() -> str:
    name = Path(sys.argv[0]).name
    # A worker of pytest-xdist has no command line of its own.
    return "a worker of pytest" if name in {"-c", ""} else " ".join([name, *sys.argv[1:3]])
