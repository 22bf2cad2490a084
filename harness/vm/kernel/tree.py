# SPDX-License-Identifier: GPL-2.0-only
"""A user's kernel source tree: its content gets a digest and is copied; it is never written to.

In a git work tree the content is what git would commit now: tracked files as they are, and files
that are neither tracked nor ignored. Its digest is the git tree object's, so that committing a
change does not build the kernel again. The objects that git writes for that go to a temporary
folder. In any other tree the content is every file, read whole, but for what a build leaves (`make
mrproper` in the copy removes the rest).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.errors import HarnessError, UsageError
from harness.inputs import Kind, kind_of, read_text_file
from harness.vm.host.process import run
from harness.vm.host.temporary import temporary_folder
from harness.vm.kernel.toolchain import build_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.deadline import Deadline

_VERSION_LINES = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(.*)$", re.M)
KERNEL_FILES = ("Kbuild", "Kconfig", "kernel/livepatch/Kconfig", "arch/x86/Kconfig")
_PRODUCT_SUFFIXES = (".o", ".a", ".ko", ".cmd", ".mod", ".mod.c", ".order", ".symvers", ".dwo")
_PRODUCTS = {".git", ".config", ".config.old", "vmlinux", "vmlinux.o", "System.map", ".version"}
_BUILD_MARKS = (".config", "include/config", "arch/x86/include/generated")


def source_version(tree: Path) -> str:
    """Return the version that a tree's Makefile gives, for example ``6.1.192``.

    Raises UsageError when the folder holds no kernel sources with x86 and livepatch.
    """
    makefile = tree / "Makefile"
    is_file = kind_of(makefile, "the Makefile") is Kind.FILE
    head = read_text_file(makefile, "the Makefile")[:2000] if is_file else ""
    parts = {name: value.strip() for name, value in _VERSION_LINES.findall(head)}
    if not {"VERSION", "PATCHLEVEL", "SUBLEVEL"} <= parts.keys():
        built = (tree / "arch/x86/boot/bzImage").exists() and (tree / "vmlinux").exists()
        raise UsageError(
            f"{tree} holds no kernel sources: its Makefile names no kernel version",
            hint=f"a finished build is given as build:{tree}" if built else None,
        )
    missing = [name for name in KERNEL_FILES if not (tree / name).is_file()]
    if missing:
        raise UsageError(f"{tree} is no complete kernel source tree: it lacks {missing[0]}")
    return (
        f"{parts['VERSION']}.{parts['PATCHLEVEL']}.{parts['SUBLEVEL']}"
        f"{parts.get('EXTRAVERSION', '')}"
    )


class UserTree:
    """A tree with kernel sources. Use `opened`: it fixes the content once."""

    def __init__(self, path: Path, digest: str, scratch: Path, *, git: bool) -> None:
        self.path = path
        self.digest = digest
        self._scratch = scratch
        self._git = git

    def copy_to(self, destination: Path, deadline: Deadline) -> None:
        """Write the content, clean of any build, to a folder that does not exist yet.

        Raises NoSpace; UsageError when git cannot read the tree, or a tree without git changed
        meanwhile.
        """
        if self._git:
            destination.mkdir()
            checkout = ("checkout-index", "--all", "--quiet", f"--prefix={destination}/")
            _git(self.path, self._scratch, *checkout, deadline=deadline)
            return
        _copy_plain(self.path, destination)
        if _plain_digest(destination) != self.digest:
            raise UsageError(
                f"{self.path} changed while it was copied", hint="do not change it meanwhile"
            )
        if any((destination / mark).exists() for mark in _BUILD_MARKS):
            run(
                ["make", "-C", destination, "ARCH=x86_64", "mrproper"],
                deadline=deadline,
                env=build_environment(),
            )


@contextlib.contextmanager
def opened(path: Path, deadline: Deadline) -> Iterator[UserTree]:
    """Give the tree with its digest; its temporary files are removed when the block ends.

    Raises UsageError when it is no kernel tree or git refuses to read it.
    """
    source_version(path)
    with temporary_folder("tree") as scratch:
        if not (path / ".git").exists():
            yield UserTree(path, _plain_digest(path), scratch, git=False)
            return
        yield UserTree(path, _git_digest(path, scratch, deadline), scratch, git=True)


def unreadable(error: OSError) -> NoReturn:
    """Refuse sources of which a folder cannot be read, for os.walk(), which would leave it out.

    What is built without a part of it fails, and that would count as a verdict.
    Raises UsageError where its rights are the reason, HarnessError for any other.
    """
    kind = UsageError if isinstance(error, PermissionError) else HarnessError
    raise kind(f"the folder {error.filename} cannot be read: {error.strerror}") from error


def _git_digest(path: Path, scratch: Path, deadline: Deadline) -> str:
    (scratch / "objects").mkdir()
    index = Path(_git(path, None, "rev-parse", "--git-path", "index", deadline=deadline))
    index = index if index.is_absolute() else path / index
    if index.exists():
        # With the times in it, git reads changed files only.
        shutil.copy2(index, scratch / "index")
    _git(path, scratch, "add", "--all", ".", deadline=deadline)
    return _git(path, scratch, "write-tree", deadline=deadline)


def _git(path: Path, scratch: Path | None, *arguments: str, deadline: Deadline) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    } | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    if scratch is not None:
        objects = _git(path, None, "rev-parse", "--git-path", "objects", deadline=deadline)
        environment |= {
            "GIT_INDEX_FILE": str(scratch / "index"),
            "GIT_OBJECT_DIRECTORY": str(scratch / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(path / objects),
        }
    finished = run(
        ["git", "-C", path, *arguments],
        deadline=deadline,
        env=environment,
        explain=lambda error: UsageError(
            f"git cannot read the tree {path}",
            hint="`git status` there shows more",
            details=error.details[-3:],
        ),
    )
    return finished.stdout.strip()


def _plain_digest(tree: Path) -> str:
    digest = hashlib.sha256()
    for name in _plain_files(tree):
        path = tree / name
        digest.update(os.fsencode(name) + b"\0")
        if path.is_symlink():
            digest.update(b"link\0" + os.fsencode(path.readlink()))
            continue
        digest.update(b"run\0" if os.access(path, os.X_OK) else b"file\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _copy_plain(tree: Path, destination: Path) -> None:
    destination.mkdir()
    for name in _plain_files(tree):
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree / name, target, follow_symlinks=False)


def _plain_files(tree: Path) -> Iterator[str]:
    for root, folders, files in os.walk(tree, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name not in _PRODUCTS)
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in sorted(files + links):
            if not name.endswith(_PRODUCT_SUFFIXES) and name not in _PRODUCTS:
                path = Path(root, name)
                if path.is_file() or path.is_symlink():
                    yield str(path.relative_to(tree))
