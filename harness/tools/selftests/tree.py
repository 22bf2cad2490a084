# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel tree has in tools/testing/selftests/livepatch, and where its modules are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.kernel.kernel import Kernel

SUITE = "tools/testing/selftests/livepatch"
NOT_RUN = ("bpf/livepatch_trampoline",)
"""Live patching selftests that need what these guests do not have: BPF, BTF and libbpf."""

_MODULES = f"{SUITE}/test_modules"
# Up to 6.7 they lie here, and only build when this symbol is given (lib/livepatch/Makefile).
_OLD_MODULES = "lib/livepatch"
_OLD_SWITCH = ("CONFIG_TEST_LIVEPATCH=m",)
_PROGRAM_LIST = re.compile(
    r"^(TEST_PROGS|TEST_GEN_FILES)\s*:?\+?=\s*((?:.*\\\n)*.*)$", re.MULTILINE
)
_CASE = re.compile(r"""^\s*start_test\s+(?:"([^"]*)"|(\S+))""", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One tree's livepatch selftests.

    ``scripts`` in the Makefile's order, each with the names of its cases; ``programs`` are the C
    sources of helpers that a script runs; ``modules`` is the folder of the test modules, which is
    made with ``variables``.
    """

    tree: Path
    folder: Path
    scripts: tuple[Script, ...]
    programs: tuple[Path, ...]
    modules: Path
    variables: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Script:
    """A test script and the cases that it announces, in order."""

    name: str
    cases: tuple[str, ...]


def source_tree(kernel: Kernel) -> Path:
    """Return the sources of a kernel: its build folder, or what an O= build was made from.

    Raises UsageError when they are not there, as with a packaged kernel.
    """
    build = kernel.build_dir
    for candidate in (build, build / "source", build.parent):
        if (candidate / SUITE).is_dir():
            return candidate.resolve()
    raise UsageError(
        f"the selftests are part of the sources, and {kernel.describe()} has none here",
        hint="give a version, a source tree, or build:DIR of a build beside its sources",
    )


def find_suite(tree: Path) -> Suite:
    """Return the suite of that tree. Raises UsageError when its Makefile lists no scripts."""
    folder = tree / SUITE
    lists = {
        match[1]: match[2].replace("\\\n", " ").split()
        for match in _PROGRAM_LIST.finditer((folder / "Makefile").read_text())
    }
    names = [name for name in lists.get("TEST_PROGS", []) if (folder / name).is_file()]
    if not names:
        raise UsageError(f"{folder}/Makefile lists no test scripts")
    old = not (tree / _MODULES).is_dir()
    return Suite(
        tree=tree,
        folder=folder,
        scripts=tuple(Script(name=name, cases=_cases(folder / name)) for name in names),
        programs=tuple(
            folder / f"{name}.c"
            for name in lists.get("TEST_GEN_FILES", [])
            if (folder / f"{name}.c").is_file()
        ),
        modules=tree / (_OLD_MODULES if old else _MODULES),
        variables=_OLD_SWITCH if old else (),
    )


def _cases(script: Path) -> tuple[str, ...]:
    return tuple(quoted or bare for quoted, bare in _CASE.findall(script.read_text()))
