# SPDX-License-Identifier: GPL-2.0-only
"""Modules built from source against a kernel, in a copy, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import MIB, Kind, kind_of, shown
from harness.vm.kernel.inventory import MODULES
from harness.vm.kernel.kbuild import build_log, make
from harness.vm.kernel.toolchain import jobs

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
_MOST_BYTES = 1024 * MIB


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
    files = source_files(source_dir)
    toolchain = kernel.toolchain()
    signer = kernel.signer()
    signed_by = () if signer is None else (signer.identity,)
    variables = (*kernel.module_variables, *variables)
    built_with = "\n".join((toolchain.identity, *variables, *signed_by))
    key = f"{kernel.module_digest}-{_digest(source_dir, files, built_with)}"

    def fill(folder: Path) -> None:
        copy = folder / _SOURCES
        copy_sources(source_dir, copy)
        with build_log(store, f"module-{key}", folder) as log_path:
            build_modules(
                kernel,
                copy,
                variables=variables,
                what=source_dir.name,
                log_path=log_path,
                deadline=deadline,
            )
        for module in sorted(copy.rglob("*.ko")):
            made = Path(shutil.copyfile(module, folder / module.name))
            if signer is not None:
                signer.sign(made, deadline)
        shutil.rmtree(copy)

    entry = store.obtain(MODULES, key, fill, deadline=deadline)
    return {path.stem: path for path in sorted(entry.glob("*.ko"))}


def copy_sources(folder: Path, copy: Path) -> None:
    """Copy what a build needs of a folder of module sources; raises UsageError for no such."""
    for name in source_files(folder):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target)


def build_modules(
    kernel: Kernel,
    folder: Path,
    *,
    variables: tuple[str, ...] = (),
    what: str,
    log_path: Path,
    deadline: Deadline,
) -> None:
    """Build the modules of a folder of sources in that folder, unsigned. Raises as `make` does."""
    make(
        kernel.build_dir,
        kernel.toolchain(),
        jobs(),
        f"M={folder}",
        # A warning of the kernel then names the module's source file without a folder.
        f"KCFLAGS=-ffile-prefix-map={folder}/=",
        *variables,
        "modules",
        what=f"{what} against {kernel.version}",
        log_path=log_path,
        deadline=deadline,
        hidden=f"{folder}/",
    )


def source_files(folder: Path) -> tuple[str, ...]:
    """Return the files of a folder of module sources that a build needs, by their paths there.

    Raises UsageError when it holds no module sources, something that is no file, more than a
    module's sources can be, or what this user may not read.
    """
    makefiles = [kind_of(folder / name, "the Makefile") for name in _MAKEFILES]
    if Kind.FILE not in makefiles:
        raise UsageError(
            f"{shown(folder)} holds no module sources",
            hint="it needs a Kbuild file with a line such as: obj-m += my_patch.o",
        )
    found = []
    size = 0
    for path in _files_below(folder):
        try:
            status = path.stat()
        except OSError as error:
            if not path.is_symlink():
                raise UsageError(f"{shown(path)} cannot be read: {error.strerror}") from error
            continue  # a link that leads nowhere: an editor's lock, or of another machine
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(
                f"{shown(path)} is no file, and cannot be built from", hint="remove it from there"
            )
        if not os.access(path, os.R_OK):
            raise UsageError(f"{shown(path)} cannot be read: this user has no permission")
        size += status.st_size
        if size > _MOST_BYTES:
            raise UsageError(
                f"{shown(folder)} holds more than {_MOST_BYTES // MIB} MiB, which are no sources "
                "of modules"
            )
        found.append(str(path.relative_to(folder)))
    return tuple(found)


def _files_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UsageError(f"{shown(error.filename)} cannot be read: {error.strerror}") from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if name not in _PRODUCT_FOLDERS)
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith(_PRODUCT_SUFFIXES):
                yield Path(root, name)


def _digest(folder: Path, files: tuple[str, ...], compiler: str) -> str:
    digest = hashlib.sha256(os.fsencode(f"{_FORMAT}\0{folder.name}\0{compiler}\0"))
    for name in files:
        content = (folder / name).read_bytes()
        digest.update(os.fsencode(f"{name}\0{len(content)}\0"))
        digest.update(content)
    return digest.hexdigest()[:32]
