# SPDX-License-Identifier: GPL-2.0-only
"""The modules that a user names: a .ko file, a sample's name, or a folder of sources."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.prepare import prepare_modules
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.report.terminal import Terminal
    from harness.vm.kernel.kernel import Kernel

_SUFFIX = ".ko"


class ModuleFinder:
    """Finds modules for one kernel; the samples are built when the first is needed."""

    def __init__(self, terminal: Terminal, kernel: Kernel) -> None:
        self._terminal = terminal
        self._kernel = kernel
        self._samples: Mapping[str, Path] | None = None

    @property
    def samples(self) -> Mapping[str, Path]:
        """The modules of livepatch-modules/, by name."""
        if self._samples is None:
            self._samples = prepare_modules(self._terminal, self._kernel)
        return self._samples

    def find(self, named: str) -> tuple[Path, ...]:
        """Return the files of the modules that one argument names; a folder may have several.

        Raises UsageError when it names none, KernelBuildFailed when a folder does not build.
        """
        path = Path(named).expanduser()
        if path.is_dir():
            built = prepare_modules(self._terminal, self._kernel, path)
            return tuple(built[name] for name in sorted(built))
        if path.is_file():
            return (path,)
        if "/" in named or named.endswith(_SUFFIX):
            raise UsageError(f"there is no file {named}")
        sample = self.samples.get(named.replace("-", "_"))
        if sample is None:
            raise UsageError(
                f"{named} is neither a file nor a sample module", hint=self._hint(named)
            )
        return (sample,)

    def _hint(self, named: str) -> str:
        near = difflib.get_close_matches(named, self.samples, n=3)
        if near:
            return f"did you mean {' or '.join(near)}?"
        patches = sorted(name for name in self.samples if name.startswith("klp_test_"))
        return f"the samples are {', '.join(patches)}"
