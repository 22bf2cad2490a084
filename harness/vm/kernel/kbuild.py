# SPDX-License-Identifier: GPL-2.0-only
"""make in a kernel's sources, with its O= folder inside them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from harness.errors import CommandFailed, CommandTimeout, NoSpace
from harness.vm.host.process import run
from harness.vm.kernel.kernel import BUILD
from harness.vm.kernel.make_log import build_failure, compiles
from harness.vm.kernel.toolchain import build_environment, make_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.kernel.progress import Progress
    from harness.vm.kernel.toolchain import Toolchain

_MAKEFILE = """\
# Written by klp-harness: the kernel's own has full paths, and this folder is moved after the build.
export KBUILD_OUTPUT := $(patsubst %/,%,$(dir $(realpath $(lastword $(MAKEFILE_LIST)))))
include $(KBUILD_OUTPUT)/../Makefile
"""


def make_kernel(
    tree: Path,
    toolchain: Toolchain,
    *arguments: str,
    what: str,
    log_path: Path,
    deadline: Deadline,
    ccache: bool,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Make targets in the tree's O= folder; both outputs are appended to the log.

    ``what`` names in words what is built. Raises KernelBuildFailed with the first errors,
    MissingTool, NoSpace, CommandTimeout.
    """
    lines: list[str] = []

    def see(line: str) -> None:
        lines.append(line)
        if on_line is not None:
            on_line(line)

    try:
        run(
            make_command(tree, toolchain, f"O={BUILD}", *arguments),
            deadline=deadline,
            env=build_environment(ccache=ccache),
            log_path=log_path,
            on_line=see,
            death_signal=signal.SIGTERM,
        )
    except (CommandTimeout, NoSpace):
        raise
    except CommandFailed as error:
        raise build_failure(what, lines, log_path) from error


def make_relocatable(tree: Path) -> None:
    """Let the O= folder's Makefile find the sources wherever the pair of both is moved.

    Up to 6.12 it names them ``..``; later kernels write full paths into it (top Makefile,
    filechk_makefile), and modules are built against it with make -C. Raises OSError.
    """
    makefile = tree / BUILD / "Makefile"
    if str(tree.resolve()) in makefile.read_text():
        makefile.write_text(_MAKEFILE)


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
