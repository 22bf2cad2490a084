# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch made of a diff by kpatch-build, for kernels that come without klp-build.

kpatch-build is run as it is, in a tree of its own. Two things are made for it:

- It reads the sizes of structures from the DWARF of vmlinux, and the kernels that we build have
  none. So a few files are compiled with debug information, and that is added to a copy of vmlinux.
  The tree's configuration differs from the kernel's in that alone, which changes no code.
- It builds the whole kernel twice unless it is told what (``--target``). A diff of C files can
  change objects of their own folders only, so these are built and no others.
"""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from harness.errors import CommandFailed, CommandTimeout, HarnessError, NoSpace
from harness.tools.verify.from_diff.diff_tree import DiffJob, Need
from harness.tools.verify.from_diff.kpatch_tools import (
    TOOL,
    Kpatch,
    failure,
    obtain_kpatch,
    stage,
)
from harness.vm.host.lookup import program
from harness.vm.host.process import run
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.make_log import build_failure
from harness.vm.kernel.source import TREE
from harness.vm.kernel.toolchain import build_environment, find_toolchain, jobs, make_command
from harness.vm.kernel.workspace import KPATCH_BUILD

if TYPE_CHECKING:
    from pathlib import Path

_VMLINUX = "vmlinux-with-types"
_NEEDS: tuple[Need, ...] = (
    ("gawk", program("gawk"), "gawk"),
    ("lsdiff", program("lsdiff"), "patchutils"),
    ("objcopy", program("objcopy"), "binutils"),
)
_DEBUG_INFO = """
# CONFIG_DEBUG_INFO_NONE is not set
CONFIG_DEBUG_KERNEL=y
CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y
CONFIG_DEBUG_INFO=y
"""
# Where the structures are used whose sizes it asks for (find_special_section_data()).
_WITH_TYPES = (
    "arch/x86/kernel/alternative.c",
    "arch/x86/kernel/jump_label.c",
    "arch/x86/kernel/unwind_orc.c",
    "kernel/extable.c",
    "kernel/printk/index.c",
    "lib/bug.c",
)
# DWARF has it since version 5.
_NOT_ALWAYS = "line_str"
_DWARF = ("info", "abbrev", "str", _NOT_ALWAYS)


@dataclass(frozen=True, kw_only=True)
class KpatchJob(DiffJob):
    """A diff for kpatch-build."""

    tool: ClassVar[str] = TOOL
    trees: ClassVar[str] = KPATCH_BUILD

    @cached_property
    def _kpatch(self) -> Kpatch:
        return obtain_kpatch(self.store, deadline=self.deadline, progress=self.progress)

    @property
    def identity(self) -> str:
        """Its version."""
        return f"kpatch {self._kpatch.version}\0"

    @property
    def needs(self) -> tuple[Need, ...]:
        """Programs that it runs, and we."""
        return _NEEDS

    def is_ready(self, tree: Path) -> bool:
        """Return whether the tree has been prepared; what is built in it, make knows."""
        return (tree.parent / _VMLINUX).is_file()

    def prepare(self, place: Path, tree: Path) -> None:
        """Configure the tree with debug information, and make a vmlinux that tells types."""
        (place / _VMLINUX).unlink(missing_ok=True)
        if not self.kernel.config.enabled("DEBUG_INFO"):
            with (tree / ".config").open("a") as config:
                config.write(_DEBUG_INFO)
        self.progress.stage("preparing the sources for kpatch-build")
        self._make(tree, "olddefconfig")
        self._check_config(tree)
        objects = [name[:-1] + "o" for name in _WITH_TYPES if self._is_built(name)]
        self._make(tree, "modules_prepare", *objects)
        shutil.copyfile(self.kernel.build_dir / "Module.symvers", tree / "Module.symvers")
        assert self.kernel.vmlinux is not None
        if self.kernel.config.enabled("DEBUG_INFO"):
            shutil.copyfile(self.kernel.vmlinux, place / _VMLINUX)
        else:
            self._add_types(place, tree, objects)

    def run_tool(self, place: Path, folder: Path, diff: Path, *, ready: bool) -> None:
        """Run kpatch-build in the tree."""
        del ready  # make knows what is built
        tree = place / TREE
        private = place / "state"
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir()
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            begun = stage(line)
            if begun is not None:
                self.progress.stage(f"{TOOL}: {begun}")

        try:
            run(
                [
                    *(self._kpatch.script, f"--sourcedir={tree}", f"--config={tree / '.config'}"),
                    *(f"--vmlinux={place / _VMLINUX}", f"--output={folder}"),
                    *(f"--target={name}" for name in self._targets()),
                    *(f"--jobs={jobs().removeprefix('-j')}", diff),
                ],
                deadline=self.deadline,
                cwd=tree,
                env={**build_environment(), "CACHEDIR": str(private)},
                log_path=self.log_path,
                on_line=on_line,
                death_signal=signal.SIGTERM,
            )
        except (CommandTimeout, NoSpace):
            raise
        except CommandFailed as error:
            told = private / "build.log"
            built = told.read_text(errors="replace").splitlines() if told.is_file() else []
            if built:
                with self.log_path.open("a") as log:
                    log.write("\n".join(built) + "\n")
            raise failure(diff.name, self.kernel.describe(), lines, built, self.log_path) from error
        shutil.rmtree(private)

    def _targets(self) -> tuple[str, ...]:
        """Return what is to be built: nothing means the whole kernel."""
        names = [PurePosixPath(name) for name in self.diff.files]
        has_modules = next(self.kernel.build_dir.rglob("*.ko"), None) is not None
        if has_modules or any(name.suffix != ".c" for name in names):
            return ()
        folders = dict.fromkeys(f"{name.parent}/" for name in names)
        return ("modules_prepare", *folders)

    def _is_built(self, source: str) -> bool:
        return (self.kernel.build_dir / source).with_suffix(".o").is_file()

    def _make(self, tree: Path, *targets: str) -> None:
        lines: list[str] = []
        try:
            run(
                make_command(tree, replace(find_toolchain(), cc="gcc"), jobs(), *targets),
                deadline=self.deadline,
                env=build_environment(),
                log_path=self.log_path,
                on_line=lines.append,
                death_signal=signal.SIGTERM,
            )
        except (CommandTimeout, NoSpace):
            raise
        except CommandFailed as error:
            raise build_failure(self.kernel.describe(), lines, self.log_path) from error

    def _check_config(self, tree: Path) -> None:
        """Raise HarnessError unless debug information is all that the tree has other."""
        made = KernelConfig.read(tree / ".config")
        names = self.kernel.config.differing(made)
        other = sorted(name for name in names if not name.startswith("CONFIG_DEBUG_INFO"))
        if other or not made.enabled("DEBUG_INFO"):
            raise HarnessError(
                f"{self.kernel.describe()} cannot be configured with debug information alone, "
                f"which {TOOL} needs",
                details=tuple(other),
                hint="build it so: --kernel-config debug-info",
            )

    def _add_types(self, place: Path, tree: Path, objects: list[str]) -> None:
        """Make a copy of vmlinux with the debug information of these objects."""
        assert self.kernel.vmlinux is not None
        linked, made = place / "types", place / f"{_VMLINUX}.new"
        # A final link, so that what debug information says of itself is filled in.
        options = ("--entry=0", "--unresolved-symbols=ignore-all", "-z", "noexecstack")
        names = [tree / name for name in objects]
        run(["ld", *options, "-o", linked, *names], deadline=self.deadline)
        sections = []
        for name in _DWARF:
            part = place / f"types.{name}"
            run(
                ["objcopy", "--dump-section", f".debug_{name}={part}", linked],
                deadline=self.deadline,
                check=name != _NOT_ALWAYS,
            )
            if part.is_file():
                sections += ["--add-section", f".debug_{name}={part}"]
        run(["objcopy", *sections, self.kernel.vmlinux, made], deadline=self.deadline)
        for part in place.glob("types*"):
            part.unlink()
        made.rename(place / _VMLINUX)
