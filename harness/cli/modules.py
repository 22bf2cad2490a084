# SPDX-License-Identifier: GPL-2.0-only
"""The modules that a user names: a .ko file, a sample's name, or a folder of sources."""

from __future__ import annotations

import difflib
import functools
import re
from typing import TYPE_CHECKING

from harness.cli.prepare import prepare_modules
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.inputs import Kind, kind_of, read_file, shown, user_path
from harness.resources import Resource, resource_dir
from harness.vm.elf.module_info import MOST_BYTES, read_module
from harness.vm.guest import runs
from harness.vm.kernel.module import source_files
from harness.vm.kernel.signing import enforcing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.report.terminal import Terminal
    from harness.vm.kernel.kernel import Kernel

_SUFFIX = ".ko"
_SIGN_S = 60.0
# DWARF 5 of gcc makes addr2line of binutils 2.40 take a header for the file that includes it.
_WITH_LINES = "CFLAGS_MODULE=-g -gdwarf-4"
_WHAT = "the module"
_LISTED = re.compile(r"^obj-m \+= (\w+)\.o$", re.MULTILINE)


def check_named(named: Iterable[str], *, contents: bool = True) -> None:
    """Refuse names of modules that no kernel's build could make right, before one is built.

    A file has to be a module, a folder has to hold sources, another name has to be a sample's.
    Without ``contents`` a file need not be a module. Raises UsageError.
    """
    for name in named:
        path, kind = _looked_up(name)
        if kind is Kind.FOLDER:
            source_files(path)
        elif kind is Kind.FILE:
            if contents:
                read_module(path)
            else:
                read_file(path, _WHAT, at_most=MOST_BYTES)
        elif "/" in name or name.endswith(_SUFFIX):
            raise UsageError(f"there is no file {shown(name)}")
        elif name.replace("-", "_") not in sample_names():
            raise _unknown(name, sample_names())


def is_folder(named: str) -> bool:
    """Return whether an argument names a folder of sources. Raises UsageError."""
    return _looked_up(named)[1] is Kind.FOLDER


@functools.cache
def sample_names() -> tuple[str, ...]:
    """Return the names of the samples, as livepatch-modules/Kbuild lists them."""
    text = (resource_dir(Resource.LIVEPATCH_MODULES) / "Kbuild").read_text()
    return tuple(_LISTED.findall(text))


def _looked_up(named: str) -> tuple[Path, Kind]:
    path = user_path(named, _WHAT)
    return path, kind_of(path, _WHAT)


def _unknown(named: str, samples: Iterable[str]) -> UsageError:
    known = list(samples)
    near = difflib.get_close_matches(named[:100], known, n=3)
    patches = sorted(name for name in known if name.startswith("klp_test_"))
    return UsageError(
        f"{shown(named)} is neither a file nor a sample module",
        hint=f"did you mean {' or '.join(near)}?"
        if near
        else f"the samples are {', '.join(patches)}",
    )


class ModuleFinder:
    """Finds modules for one kernel; the samples are built when the first is needed.

    With ``lines``, what is built says which lines its code is of. Of the samples, those in ``only``
    are built, where it names any. ``folders`` has the folder of the sources of each module that was
    found and built.
    """

    def __init__(
        self,
        terminal: Terminal,
        kernel: Kernel,
        *,
        lines: bool = False,
        only: Sequence[str] = (),
    ) -> None:
        self._terminal = terminal
        self._kernel = kernel
        self._variables = (_WITH_LINES,) if lines else ()
        self._only = (f"KLP_ONLY={' '.join(f'{name}.o' for name in only)}",) if only else ()
        self._samples: Mapping[str, Path] | None = None
        self.folders: dict[Path, Path] = {}

    @property
    def samples(self) -> Mapping[str, Path]:
        """The modules of livepatch-modules/, by name."""
        if self._samples is None:
            self._samples = self._built(resource_dir(Resource.LIVEPATCH_MODULES), self._only)
        return self._samples

    def find(self, named: str) -> tuple[Path, ...]:
        """Return the files of the modules that one argument names; a folder may have several.

        Raises UsageError when it names none, KernelBuildFailed when a folder does not build.
        """
        path, kind = _looked_up(named)
        if kind is Kind.FOLDER:
            built = self._built(path)
            return tuple(built[name] for name in sorted(built))
        if kind is Kind.FILE:
            return (self._signed(path),)
        if "/" in named or named.endswith(_SUFFIX):
            raise UsageError(f"there is no file {shown(named)}")
        sample = self.samples.get(named.replace("-", "_"))
        if sample is None:
            raise _unknown(named, self.samples)
        return (sample,)

    def _built(self, folder: Path, variables: tuple[str, ...] = ()) -> Mapping[str, Path]:
        variables = (*self._variables, *variables)
        built = prepare_modules(self._terminal, self._kernel, folder, variables=variables)
        self.folders.update(dict.fromkeys(built.values(), folder))
        return built

    def _signed(self, path: Path) -> Path:
        """Return a finished module as the kernel loads it: one that has to be signed, is."""
        if enforcing(self._kernel.config) is None:
            return path
        signer = self._kernel.signer()
        if signer is None:
            return path
        signed = signer.signed(path, runs.store(), Deadline.after(_SIGN_S))
        if signed != path:
            self._terminal.print(f"signed with the kernel's key, in a copy: {path.name}")
        return signed
