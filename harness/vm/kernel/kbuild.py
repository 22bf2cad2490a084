# SPDX-License-Identifier: GPL-2.0-only
"""make in a kernel's sources, with its O= folder inside them."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from harness.vm.host.process import run
from harness.vm.kernel.kernel import BUILD
from harness.vm.kernel.make_log import build_failure, compiles
from harness.vm.kernel.toolchain import build_environment, make_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress
    from harness.vm.kernel.toolchain import Toolchain

GDB_SCRIPTS = "vmlinux-gdb.py"
"""What gdb reads for the kernel's own commands (lx-), in the O= folder of a build that has them."""

# Guests may run meanwhile, of tests that wait for them; a build only takes longer.
_NICE = 10
_MAKEFILE = """\
# Written by klp-harness: the kernel's own has full paths, and this folder is moved after the build.
export KBUILD_OUTPUT := $(patsubst %/,%,$(dir $(realpath $(lastword $(MAKEFILE_LIST)))))
include $(KBUILD_OUTPUT)/../Makefile
"""


@contextlib.contextmanager
def build_log(store: Store, name: str, entry: Path) -> Iterator[Path]:
    """Give the path of a build's log while it grows.

    It is moved into the cache entry at the end; when the build fails it stays in ``logs/``.
    """
    path = store.root / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    yield path
    shutil.move(path, entry / "build.log")


def make(
    folder: Path,
    toolchain: Toolchain,
    *arguments: str,
    what: str,
    log_path: Path,
    deadline: Deadline,
    ccache: bool = True,
    on_line: Callable[[str], None] | None = None,
    hidden: str = "",
) -> None:
    """Make targets in a folder; both outputs are appended to the log.

    ``what`` names in words what is built; ``hidden`` is left out of the lines that an error quotes.
    Raises KernelBuildFailed with the first errors, MissingTool, NoSpace, CommandTimeout.
    """
    lines: list[str] = []

    def see(line: str) -> None:
        lines.append(line.replace(hidden, "") if hidden else line)
        if on_line is not None:
            on_line(line)

    run(
        make_command(folder, toolchain, *arguments),
        deadline=deadline,
        env=build_environment(ccache=ccache),
        log_path=log_path,
        on_line=see,
        death_signal=signal.SIGTERM,
        nice=_NICE,
        explain=lambda _: build_failure(what, lines, log_path),
    )


def make_relocatable(tree: Path) -> None:
    """Let the O= folder find the sources wherever the pair of both is moved.

    Its Makefile names them ``..`` up to 6.12; later kernels write full paths into it (top Makefile,
    filechk_makefile), and modules are built against it with make -C. CONFIG_GDB_SCRIPTS makes links
    with full paths in all kernels (scripts/gdb/linux/Makefile). Raises OSError.
    """
    build, place = tree / BUILD, tree.resolve()
    makefile = build / "Makefile"
    if str(place) in makefile.read_text():
        makefile.write_text(_MAKEFILE)
    for link in (build / GDB_SCRIPTS, *build.joinpath("scripts/gdb").rglob("*.py")):
        target = link.readlink() if link.is_symlink() else None
        if target is None or not target.is_absolute() or not target.is_relative_to(place):
            continue
        relative = Path(*[".."] * len(link.parent.relative_to(tree).parts))
        link.unlink()
        link.symlink_to(relative / target.relative_to(place))


class ObjectCounter:
    """Counts the objects that a build announces, for its progress."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        self.done = 0
        self._total = total
        self._progress = progress

    def __call__(self, line: str) -> None:
        """Take a line of the log."""
        if compiles(line):
            self.done += 1
            total = None if self._total is None else max(self._total, self.done)
            self._progress.count(self.done, total, "objects")
