# SPDX-License-Identifier: GPL-2.0-only
"""What kernels and modules are compiled with, and the environment they are compiled in."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.vm.host.capacity import usable_cores
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

_ASK_DEADLINE_S = 30.0
# Only these pass: an inherited ARCH, CROSS_COMPILE, KBUILD_OUTPUT, KCFLAGS or MAKEFLAGS would build
# something else under the same key.
_INHERITED = ("HOME", "PATH", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
_INHERITED_PREFIX = "CCACHE_"


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """``cc`` is what make gets as CC; the others are the first lines of --version."""

    cc: str
    compiler: str
    linker: str

    @property
    def identity(self) -> str:
        """What of it decides the machine code; ccache does not."""
        return f"{self.compiler}\n{self.linker}"


def find_toolchain() -> Toolchain:
    """Return the host's gcc and ld, with ccache before gcc where it is installed.

    The choice is the same for every build of a machine: another CC string makes Kbuild compile
    everything again.
    Raises MissingTool.
    """
    return Toolchain(
        cc="ccache gcc" if shutil.which("ccache") else "gcc",
        compiler=_first_line("gcc"),
        linker=_first_line("ld"),
    )


def _first_line(program: str) -> str:
    finished = run(
        [program, "--version"], deadline=Deadline.after(_ASK_DEADLINE_S), env=build_environment()
    )
    return finished.stdout.splitlines()[0]


def build_environment(*, ccache: bool = True) -> dict[str, str]:
    """Return the whole environment of a build: the same input gives the same output anywhere.

    Without ``ccache`` it is bypassed, though CC stays as it is.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIX)
    }
    # Without depend mode a first build takes 40 % more CPU time, with it 10 %.
    how = {"CCACHE_DEPEND": "1"} if ccache else {"CCACHE_DISABLE": "1"}
    return {**how, **passed} | {
        "LC_ALL": "C",
        "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
        "KBUILD_BUILD_USER": "klp",
        "KBUILD_BUILD_HOST": "harness",
        "KBUILD_BUILD_VERSION": "1",
        # Set, though empty: setlocalversion adds no "+" for sources in a git repository.
        "LOCALVERSION": "",
    }


def make_command(folder: Path, toolchain: Toolchain, *arguments: str) -> list[str]:
    """Return the make command for targets and variables in a folder, without -j."""
    return ["make", "-C", str(folder), "ARCH=x86_64", f"CC={toolchain.cc}", *arguments]


def jobs() -> str:
    """Return make's -j option: the CPUs that this process may use, and one job that waits.

    A quota of its cgroup counts: more jobs would take memory, and no less time.
    """
    return f"-j{math.ceil(usable_cores()) + 1}"
