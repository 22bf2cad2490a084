# SPDX-License-Identifier: GPL-2.0-only
"""A tree to build changed kernels in: clean sources, and a finished build that make continues.

``<cache>/workspace/<key of the clean kernel>/linux`` has the clean kernel's sources as hard links.
For each use it gets a fresh copy of that kernel's O= folder, changed files replace
their links; afterwards the links are restored and the folder is removed. The cached kernel is only
read.

A file ``clean`` exists beside it while the sources are known to be unchanged. It is removed before
the first change and written after the last one is undone; when there is none, because a process was
killed in between or the host crashed, the workspace is made again. The lock is flock(2) and ends
with its process.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import CommandFailed, CommandTimeout
from harness.vm.host.files import boot_id, locked, read_text, remove_folder
from harness.vm.host.process import run
from harness.vm.kernel.kernel import BUILD
from harness.vm.kernel.source import TREE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from harness.deadline import Deadline

KIND = "workspace"
KLP_BUILD, KPATCH_BUILD = "klp-build", "kpatch-build"
# Folders of the cache that hold a tree for each kernel, which a build there changes.
TREES = (KIND, KLP_BUILD, KPATCH_BUILD)
_CLEAN = "clean"
_SAVED_COMMAND = re.compile(rb"(/[^\s:]+?)/" + BUILD.encode() + rb"/tools/")


class Workspace:
    """A workspace that is locked, clean and ready to build in. Use `opened`."""

    def __init__(self, clean: Path, tree: Path) -> None:
        self.tree = tree
        self._clean = clean
        self._changed: list[str] = []

    @property
    def build(self) -> Path:
        """The O= folder."""
        return self.tree / BUILD

    def put(self, name: str, content: Path | None) -> None:
        """Put a file in the place of the clean one; None removes it.

        The link is removed first: what is written goes to a new file, never to the cached one.
        """
        self._changed.append(name)
        target = self.tree / name
        target.unlink(missing_ok=True)
        if content is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(content, target)
            if (self._clean / name).exists():
                shutil.copymode(self._clean / name, target)

    def restore(self) -> None:
        """Undo every `put`, and remove the O= folder."""
        shutil.rmtree(self.build, ignore_errors=True)
        for name in reversed(self._changed):
            target = self.tree / name
            target.unlink(missing_ok=True)
            if (self._clean / name).exists():
                _link_or_copy(self._clean / name, target)
            else:
                self._remove_empty(target.parent)
        self._changed.clear()

    def _remove_empty(self, folder: Path) -> None:
        while not (self._clean / folder.relative_to(self.tree)).exists():
            folder.rmdir()
            folder = folder.parent


@contextlib.contextmanager
def opened(
    root: Path,
    key: str,
    clean: Path,
    *,
    deadline: Deadline,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[Workspace]:
    """Give the workspace of a clean kernel, for this process alone.

    ``root`` is the cache's, ``clean`` the kernel's sources with the finished build in them.
    ``on_wait`` is called when another process has it. Raises HarnessError when that one does not
    end before the deadline, NoSpace, CommandFailed.
    """
    folder = root / KIND / key
    folder.mkdir(parents=True, exist_ok=True)
    with locked(
        folder.with_name(f"{key}.lock"),
        deadline,
        busy=lambda: f"another process still builds in {folder}",
        on_wait=on_wait,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / _CLEAN
        tree = folder / TREE
        if read_text(mark) != _state():
            shutil.rmtree(tree, ignore_errors=True)
            link_tree(clean, tree, deadline)
        mark.unlink(missing_ok=True)
        shutil.rmtree(tree / BUILD, ignore_errors=True)
        run(["cp", "-a", "--reflink=auto", clean / BUILD, tree / BUILD], deadline=deadline)
        _rename_in_saved_commands(tree)
        workspace = Workspace(clean, tree)
        try:
            yield workspace
        finally:
            workspace.restore()
            mark.write_text(_state())


def remove_unused(root: Path, keep: Collection[str], *, kind: str = KIND) -> int:
    """Remove the workspaces of other kernels than those, unless in use; return how many.

    ``kind`` is the folder of the cache: trees of other kinds are kept and locked in the same way.
    """
    count = 0
    for folder in sorted(root.joinpath(kind).glob("*/")):
        if folder.name in keep or folder.name.startswith("."):
            continue
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        with contextlib.suppress(Timeout), lock.acquire(timeout=0):
            remove_folder(folder)
            count += 1
    return count


def link_tree(tree: Path, copy: Path, deadline: Deadline) -> None:
    """Make a tree of hard links to sources, without their O= folder; plain copies if need be."""
    copy.mkdir()
    names = [path for path in sorted(tree.iterdir()) if path.name != BUILD]
    try:
        run(["cp", "-al", "--", *names, copy], deadline=deadline)
    except CommandTimeout:
        raise
    except CommandFailed:
        # A cache on a file system without hard links.
        shutil.rmtree(copy)
        copy.mkdir()
        run(["cp", "-a", "--reflink=auto", "--", *names, copy], deadline=deadline)


def _rename_in_saved_commands(tree: Path) -> None:
    """Put the tree's new place into the commands that the build of tools/ saved.

    Kbuild names everything relative to the O= folder, so that it can be moved. tools/build does
    not: its .cmd files hold full paths. In another place they no longer match, objtool is linked
    again, and every object depends on objtool (cmd_gen_objtooldep in scripts/Makefile.lib).
    """
    # Through links, as make has it: the working directory of the process.
    place = os.fsencode(tree.resolve())
    for path in (tree / BUILD / "tools").rglob(".*.cmd"):
        text = path.read_bytes()
        for old in {match[1] for match in _SAVED_COMMAND.finditer(text)}:
            # A word such as -I/old or -MD,/old: the path begins at its first slash.
            text = text.replace(old, place)
        _rewrite(path, text)


def _rewrite(path: Path, text: bytes) -> None:
    status = path.stat()
    path.write_bytes(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _state() -> str:
    """Return the mark's content; it names the boot, since a crash may leave empty files."""
    return f"1 {boot_id()}"
