# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch module made of a plain diff: by klp-build where the kernel has it, else kpatch-build.

klp-build (scripts/livepatch/klp-build, CONFIG_KLP_BUILD) compiles a kernel with and without the
diff, in the root of a tree of its own, and makes a module of the functions that differ. It is run
as it is. The tree with the first of the two builds is kept for each kernel (`DiffJob`), so that the
next diff needs the second build alone (``--short-circuit``). The other is in
kpatch_build.py.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.errors import CommandFailed, CommandTimeout, NoSpace, UsageError
from harness.tools.verify.from_diff.diff_tree import DiffJob, Need
from harness.tools.verify.from_diff.klp_build import failure, stage
from harness.tools.verify.from_diff.kpatch_build import KpatchJob
from harness.vm.host.lookup import header, program
from harness.vm.host.process import run
from harness.vm.kernel.inventory import MODULES
from harness.vm.kernel.kernel import BUILD
from harness.vm.kernel.patch_file import read_patch
from harness.vm.kernel.source import TREE
from harness.vm.kernel.toolchain import build_environment, jobs
from harness.vm.kernel.workspace import KLP_BUILD

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

SCRIPT = "scripts/livepatch/klp-build"
_FIRST_BUILD = "klp-tmp/1-orig/.complete"
_NEEDS: tuple[Need, ...] = (
    ("recountdiff", program("recountdiff"), "patchutils"),
    ("gawk", program("gawk"), "gawk"),
    ("xxhash.h", header("xxhash.h"), "libxxhash-dev"),
)


def obtain_from_patch(
    patch: Path, kernel: Kernel, *, store: Store, deadline: Deadline, progress: Progress
) -> Path:
    """Return the livepatch module (.ko) that is made of a diff for a kernel, or was made.

    Its name is ``livepatch-`` and that of the diff; it replaces all other patches. The first diff
    for a kernel costs more than the next ones.
    Raises UsageError for a kernel without its sources, or whose klp-build is not configured, and
    for a diff that no livepatch can be made of; PatchDoesNotApply, KernelBuildFailed when the diff
    does not compile, MissingTool, DownloadFailed, NoSpace, and HarnessError when time is up.
    """
    diff = read_patch(patch)
    kind = KlpBuildJob if _has_klp_build(kernel) else KpatchJob
    job = kind(diff=diff, kernel=kernel, store=store, deadline=deadline, progress=progress)
    entry = store.obtain(
        MODULES,
        job.key,
        job.fill,
        deadline=deadline,
        on_wait=lambda: progress.stage(f"waiting for another build of {diff.name}"),
    )
    return next(entry.glob("*.ko"))


def _has_klp_build(kernel: Kernel) -> bool:
    tree = kernel.build_dir.parent
    if kernel.build_dir.name != BUILD or not (tree / "Makefile").is_file():
        raise UsageError(
            f"no livepatch can be made of a diff for {kernel.describe()}: its sources are not here",
            hint="name a kernel that is built from source",
        )
    if not (tree / SCRIPT).is_file():
        return False
    if not kernel.config.enabled("KLP_BUILD"):
        raise UsageError(f"{kernel.describe()} is configured without CONFIG_KLP_BUILD")
    return True


@dataclass(frozen=True, kw_only=True)
class KlpBuildJob(DiffJob):
    """A diff for the kernel's own klp-build."""

    tool: ClassVar[str] = "klp-build"
    trees: ClassVar[str] = KLP_BUILD

    @property
    def identity(self) -> str:
        """Nothing: it is part of the kernel."""
        return ""

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it looks for itself, only later."""
        return _NEEDS

    def prepare(self, place: Path, tree: Path) -> None:
        """Do nothing: klp-build takes a tree with a configuration."""

    def is_ready(self, tree: Path) -> bool:
        """Return whether the kernel without the diff is there."""
        return (tree / _FIRST_BUILD).exists()

    def run_tool(self, place: Path, folder: Path, diff: Path, *, ready: bool) -> None:
        """Run klp-build in the tree."""
        steps = ["--short-circuit=2"] if ready else []
        product = folder / f"livepatch-{diff.stem}.ko"
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            begun = stage(line)
            if begun is not None:
                self.progress.stage(f"klp-build: {begun}")

        try:
            run(
                ["bash", SCRIPT, "--keep-tmp", *steps, jobs(), f"--output={product}", diff],
                deadline=self.deadline,
                cwd=place / TREE,
                env=build_environment(),
                log_path=self.log_path,
                on_line=on_line,
                death_signal=signal.SIGTERM,
            )
        except (CommandTimeout, NoSpace):
            raise
        except CommandFailed as error:
            raise failure(diff.name, self.kernel.describe(), lines, self.log_path) from error
