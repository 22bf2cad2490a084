# SPDX-License-Identifier: GPL-2.0-only
"""What a command line, or a cell of a matrix, asks to verify: names of modules, not yet files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.modules import is_folder
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.tools.verify.case import check_together, read_case
from harness.tools.verify.from_diff.obtain import obtain_from_patch
from harness.vm.elf.module_info import read_module
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from functools import partial

    from harness.cli.modules import ModuleFinder
    from harness.report.terminal import Terminal
    from harness.tools.verify.case import Case
    from harness.tools.verify.request import VerifyRequest
    from harness.vm.elf.module_info import ModuleInfo
    from harness.vm.kernel.kernel import Kernel

_SOURCE_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Names of modules as a command line has them, and a request that lacks its files."""

    modules: tuple[str, ...]
    sources: tuple[Path, ...]
    targets: tuple[str, ...]
    replaces: tuple[str, ...]
    request: partial[VerifyRequest]

    def cases(self, finder: ModuleFinder, kernel: Kernel, terminal: Terminal) -> list[Case]:
        """Build or find all files for a kernel, and read them; raises UsageError."""
        read = cache(read_module)
        patches, beside = _find(finder, self.modules, read)
        patches += [_built_from(diff, kernel, terminal) for diff in self.sources]
        check_together([read(path) for path in patches])
        targets = (*_files(finder, self.targets), *beside)
        replaces = _files(finder, self.replaces)
        requests = [
            self.request(module=path, targets=targets, replaces=replaces) for path in patches
        ]
        return [read_case(each, kernel, finder.samples, read=read) for each in requests]

    def built_files(self) -> list[Path]:
        """Return what is named as a built file, which suits one kernel only."""
        names = (*self.modules, *self.targets, *self.replaces)
        return [path for name in names if (path := Path(name).expanduser()).is_file()]


def _find(
    finder: ModuleFinder, named: Sequence[str], read: Callable[[Path], ModuleInfo]
) -> tuple[list[Path], list[Path]]:
    """Return the patches to verify, and the modules of folders that they patch."""
    patches: list[Path] = []
    beside: list[Path] = []
    for text in named:
        found = list(finder.find(text))
        if is_folder(text):
            livepatches = [path for path in found if read(path).is_livepatch]
            if not livepatches:
                raise UsageError(f"no module built from {text} is a livepatch")
            beside += [path for path in found if path not in livepatches]
            found = livepatches
        patches += found
    return patches, beside


def _built_from(diff: Path, kernel: Kernel, terminal: Terminal) -> Path:
    """Return the module that klp-build or kpatch-build makes of a diff."""
    with terminal.progress() as progress:
        progress.stage(f"a livepatch of {diff.name} for {kernel.version}")
        return obtain_from_patch(
            diff,
            kernel,
            store=runs.store(),
            deadline=Deadline.after(_SOURCE_S),
            progress=progress,
        )


def _files(finder: ModuleFinder, named: Sequence[str]) -> tuple[Path, ...]:
    return tuple(path for text in named for path in finder.find(text))
