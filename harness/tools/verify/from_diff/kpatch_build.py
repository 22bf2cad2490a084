# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch made of a diff by kpatch-build, for kernels that come without klp-build.

kpatch-build is run unchanged, in a tree of its own, with two things prepared for it:

- It reads the sizes of structures from the DWARF of vmlinux, and the kernels that the harness
  builds have none. So a few files are compiled with debug information, which is added to a copy of
  vmlinux. The tree's configuration differs from the kernel's in that only, which changes no code.
- It builds the whole kernel twice without ``--target``. A diff of C files can change only objects
  of their own folders, so these are built and no others.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from harness.errors import HarnessError
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
from harness.vm.kernel.toolchain import jobs, make_command
from harness.vm.kernel.workspace import KPATCH_BUILD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.vm.kernel.toolchain import Toolchain

_VMLINUX = "vmlinux-with-types"
_DEBUG_INFO = """
# CONFIG_DEBUG_INFO_NONE is not set
CONFIG_DEBUG_KERNEL=y
CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y
CONFIG_DEBUG_INFO=y
"""
# They use the structures whose sizes it needs (find_special_section_data()).
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
    needs: ClassVar[Sequence[Need]] = (
        ("gawk", program("gawk"), "gawk"),
        ("lsdiff", program("lsdiff"), "patchutils"),
        ("objcopy", program("objcopy"), "binutils"),
    )

    @cached_property
    def _kpatch(self) -> Kpatch:
        return obtain_kpatch(self.store, deadline=self.deadline, progress=self.progress)

    @property
    def identity(self) -> str:
        """Its version."""
        return f"kpatch {self._kpatch.version}\0"

    def is_ready(self, tree: Path) -> bool:
        """Return whether the tree is prepared; make sees what is built in it."""
        return (tree.parent / _VMLINUX).is_file()

    def prepare(self, place: Path, tree: Path) -> None:
        """Configure the tree with debug information, and make a vmlinux that has types."""
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
        del ready  # make sees what is built
        tree = place / TREE
        private = place / "state"
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir()

        def failed(lines: list[str]) -> Exception:
            build_log = private / "build.log"
            built = build_log.read_text(errors="replace").splitlines() if build_log.exists() else []
            if built:
                with self.log_path.open("a") as log:
                    log.write("\n".join(built) + "\n")
            return failure(diff.name, self.kernel.describe(), lines, built, self.log_path)

        self.run_logged(
            [
                *(self._kpatch.script, f"--sourcedir={tree}", f"--config={tree / '.config'}"),
                *(f"--vmlinux={place / _VMLINUX}", f"--output={folder}"),
                *(f"--target={name}" for name in self._targets()),
                *(f"--jobs={jobs().removeprefix('-j')}", diff),
            ],
            failed,
            stage=stage,
            cwd=tree,
            env={"CACHEDIR": str(private)},
        )
        shutil.rmtree(private)

    def _targets(self) -> tuple[str, ...]:
        """Return what to build; nothing means the whole kernel."""
        names = [PurePosixPath(name) for name in self.diff.files]
        has_modules = next(self.kernel.build_dir.rglob("*.ko"), None) is not None
        if has_modules or any(name.suffix != ".c" for name in names):
            return ()
        folders = dict.fromkeys(f"{name.parent}/" for name in names)
        return ("modules_prepare", *folders)

    def _is_built(self, source: str) -> bool:
        return (self.kernel.build_dir / source).with_suffix(".o").is_file()

    @property
    def _toolchain(self) -> Toolchain:
        """That of the kernel, without ccache: kpatch-build looks at what the compiler was."""
        toolchain = self.kernel.toolchain()
        return replace(toolchain, cc="clang" if toolchain.llvm else "gcc")

    def _make(self, tree: Path, *targets: str) -> None:
        self.run_logged(
            make_command(tree, self._toolchain, jobs(), *targets),
            lambda lines: build_failure(self.kernel.describe(), lines, self.log_path),
        )

    def _check_config(self, tree: Path) -> None:
        """Raise HarnessError when the tree is configured otherwise but for debug information."""
        made = KernelConfig.read(tree / ".config")
        names = self.kernel.config.differing(made)
        other = sorted(name for name in names if not name.startswith("CONFIG_DEBUG_INFO"))
        if other or not made.enabled("DEBUG_INFO"):
            raise HarnessError(
                f"{self.kernel.describe()} cannot be configured with debug information alone, "
                f"which {TOOL} needs",
                details=tuple(other),
                hint="build the kernel with it: --kernel-config debug-info",
            )

    def _add_types(self, place: Path, tree: Path, objects: list[str]) -> None:
        """Make a copy of vmlinux with the debug information of these objects."""
        assert self.kernel.vmlinux is not None
        linked, made = place / "types", place / f"{_VMLINUX}.new"
        # A final link resolves the references within the debug information.
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
