# SPDX-License-Identifier: GPL-2.0-only
"""What kernels and modules are compiled with, and the environment they are compiled in."""

from __future__ import annotations

import functools
import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import MissingTool
from harness.vm.host.capacity import usable_cores
from harness.vm.host.process import find_program, run

_ASK_DEADLINE_S = 30.0
# Only these pass: an inherited ARCH, CROSS_COMPILE, KBUILD_OUTPUT, KCFLAGS or MAKEFLAGS would build
# something else under the same key.
_INHERITED = ("HOME", "PATH", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
_INHERITED_PREFIX = "CCACHE_"
_LLVM_PROGRAMS = ("clang", "ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-strip")
_VERSION = re.compile(r"(?:\bclang version |\bGCC\b.*|\bgcc \(.*\) )(\d+(?:\.\d+)+)")


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """``cc`` is what make gets as CC; the others are the first lines of --version.

    ``llvm``: make gets LLVM=1 as well, and takes the linker and the binary tools of LLVM.
    """

    cc: str
    compiler: str
    linker: str
    llvm: bool = False

    @property
    def identity(self) -> str:
        """What of it decides the machine code; ccache does not."""
        return f"{self.compiler}\n{self.linker}"


def find_toolchain(*, llvm: bool = False) -> Toolchain:
    """Return the host's gcc and ld, or its clang and lld, with ccache where it is installed.

    The choice is the same for every build of a machine: another CC string makes Kbuild compile
    everything again.
    Raises MissingTool.
    """
    compiler, linker = ("clang", "ld.lld") if llvm else ("gcc", "ld")
    if llvm:
        missing = [name for name in _LLVM_PROGRAMS if shutil.which(name) is None]
        if missing:
            raise MissingTool(
                f"a build with clang needs {', '.join(missing)}, which the host lacks",
                hint="Debian, Ubuntu: apt-get install clang lld llvm",
            )
    return Toolchain(
        cc=f"ccache {compiler}" if shutil.which("ccache") else compiler,
        compiler=_first_line(compiler),
        linker=_first_line(linker),
        llvm=llvm,
    )


def is_clang(compiler: str) -> bool:
    """Return whether the first line of a compiler's --version is clang's."""
    return "clang version" in compiler


def version_in(compiler: str) -> str | None:
    """Return the number in the first line of a compiler's --version, for example ``14.0.6``."""
    match = _VERSION.search(compiler)
    return match[1] if match else None


def _first_line(program: str) -> str:
    path = Path(find_program(program))
    status = path.stat()
    return _first_line_of(path, status.st_mtime_ns, status.st_size)


# Once a process for each program as it is: every look for built modules needs it.
@functools.lru_cache(maxsize=8)
def _first_line_of(path: Path, _mtime_ns: int, _size: int) -> str:
    finished = run(
        [path, "--version"], deadline=Deadline.after(_ASK_DEADLINE_S), env=build_environment()
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
    how = ["LLVM=1"] if toolchain.llvm else []
    return ["make", "-C", str(folder), "ARCH=x86_64", *how, f"CC={toolchain.cc}", *arguments]


def jobs() -> str:
    """Return make's -j option: the CPUs that this process may use, and one job that waits.

    A quota of its cgroup counts: more jobs would take memory, and no less time.
    """
    return f"-j{math.ceil(usable_cores()) + 1}"
