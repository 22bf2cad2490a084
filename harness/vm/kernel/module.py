# SPDX-License-Identifier: GPL-2.0-only
"""Modules built from source against a kernel, in a copy, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.vm.kernel.inventory import MODULES
from harness.vm.kernel.kbuild import build_log, make
from harness.vm.kernel.toolchain import find_toolchain, jobs
from harness.vm.kernel.tree import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

_FORMAT = "1"
_SOURCES = "src"
_PRODUCT_SUFFIXES = (".o", ".ko", ".cmd", ".mod", ".mod.c", ".order", ".symvers", ".d")
_PRODUCT_FOLDERS = (".git", "__pycache__")
_MAKEFILES = ("Kbuild", "Makefile")


def obtain_modules(
    kernel: Kernel,
    source_dir: Path,
    *,
    variables: tuple[str, ...] = (),
    store: Store,
    deadline: Deadline,
) -> dict[str, Path]:
    """Return the modules of a folder with a Kbuild file or Makefile: name to .ko in the cache.

    The folder is copied first, because a build writes to the folder of its sources. Names are those
    of the files, without the suffix. One call builds all modules of the folder. ``variables`` are
    for make, for example CONFIG_TEST_LIVEPATCH=m. Raises UsageError when the folder holds no module
    sources, KernelBuildFailed with the first errors and the path of the log, MissingTool, NoSpace,
    and HarnessError when time is up.
    """
    if not any((source_dir / name).is_file() for name in _MAKEFILES):
        raise UsageError(
            f"{source_dir} holds no module sources",
            hint="it needs a Kbuild file with a line such as: obj-m += my_patch.o",
        )
    files = tuple(_source_files(source_dir))
    toolchain = find_toolchain()
    built_with = "\n".join((toolchain.identity, *variables))
    key = f"{kernel.module_digest}-{_digest(source_dir, files, built_with)}"

    def fill(folder: Path) -> None:
        copy = folder / _SOURCES
        for name in files:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source_dir / name, target)
        with build_log(store, f"module-{key}", folder) as log_path:
            make(
                kernel.build_dir,
                toolchain,
                jobs(),
                f"M={copy}",
                # A warning of the kernel then names the module's source file without a folder.
                f"KCFLAGS=-ffile-prefix-map={copy}/=",
                *variables,
                "modules",
                what=f"{source_dir.name} against {kernel.version}",
                log_path=log_path,
                deadline=deadline,
                hidden=f"{copy}/",
            )
        for module in sorted(copy.rglob("*.ko")):
            shutil.copyfile(module, folder / module.name)
        shutil.rmtree(copy)

    entry = store.obtain(MODULES, key, fill, deadline=deadline)
    return {path.stem: path for path in sorted(entry.glob("*.ko"))}


def _source_files(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name not in _PRODUCT_FOLDERS)
        for name in sorted(files):
            path = Path(root, name)
            hidden = name.startswith(".")
            if path.is_file() and not hidden and not name.endswith(_PRODUCT_SUFFIXES):
                yield str(path.relative_to(folder))


def _digest(folder: Path, files: tuple[str, ...], compiler: str) -> str:
    digest = hashlib.sha256(f"{_FORMAT}\0{folder.name}\0{compiler}\0".encode())
    for name in files:
        content = (folder / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:32]
