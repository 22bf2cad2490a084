# SPDX-License-Identifier: GPL-2.0-only
"""Modules built from source against a kernel, in a copy, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import CommandFailed, CommandTimeout, NoSpace, UsageError
from harness.vm.host.process import run
from harness.vm.kernel.inventory import MODULES
from harness.vm.kernel.make_log import build_failure
from harness.vm.kernel.toolchain import build_environment, find_toolchain, jobs, make_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

_FORMAT = "1"
_SOURCES = "src"
_LOG = "build.log"
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

    The folder is copied first, because a build writes beside its sources. Names are those of the
    files, without the suffix. One call builds all modules of the folder. ``variables`` are for
    make, for example CONFIG_TEST_LIVEPATCH=m.
    Raises UsageError when the folder holds no module sources, KernelBuildFailed with the first
    errors and the path of the log, MissingTool, NoSpace, and HarnessError when time is up.
    """
    if not any((source_dir / name).is_file() for name in _MAKEFILES):
        raise UsageError(
            f"{source_dir} holds no module sources",
            hint="it needs a Kbuild file with a line such as: obj-m += my_patch.o",
        )
    files = tuple(_source_files(source_dir))
    toolchain = "\n".join((find_toolchain().identity, *variables))
    key = f"{kernel.module_digest}-{_digest(source_dir, files, toolchain)}"
    log_path = store.root / "logs" / f"module-{key}.log"

    def fill(folder: Path) -> None:
        copy = folder / _SOURCES
        for name in files:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source_dir / name, target)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log_path.unlink(missing_ok=True)
        _make(kernel, copy, variables, source_dir.name, log_path, deadline)
        for module in sorted(copy.rglob("*.ko")):
            shutil.copyfile(module, folder / module.name)
        shutil.rmtree(copy)
        shutil.move(log_path, folder / _LOG)

    entry = store.obtain(MODULES, key, fill, deadline=deadline)
    return {path.stem: path for path in sorted(entry.glob("*.ko"))}


def _make(
    kernel: Kernel,
    copy: Path,
    variables: tuple[str, ...],
    what: str,
    log_path: Path,
    deadline: Deadline,
) -> None:
    toolchain = find_toolchain()
    lines: list[str] = []
    command = make_command(
        kernel.build_dir,
        toolchain,
        jobs(),
        f"M={copy}",
        # A warning of the kernel names the module's source file, not a folder that is gone.
        f"KCFLAGS=-ffile-prefix-map={copy}/=",
        *variables,
        "modules",
    )
    try:
        run(
            command,
            deadline=deadline,
            env=build_environment(),
            log_path=log_path,
            on_line=lines.append,
            death_signal=signal.SIGTERM,
        )
    except (CommandTimeout, NoSpace):
        raise
    except CommandFailed as error:
        plain = [line.replace(f"{copy}/", "") for line in lines]
        raise build_failure(f"{what} against {kernel.version}", plain, log_path) from error


def _source_files(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
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
