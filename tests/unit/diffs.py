# SPDX-License-Identifier: GPL-2.0-only
"""What tests of livepatches made of diffs share: a kernel with sources, and a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.tools.verify.from_diff.obtain import obtain_from_patch
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.kernel import BUILD, Kernel

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

SOURCE = "kernel/uptime.c"


def make_kernel(folder: Path, *, config: str) -> Kernel:
    """Return a kernel whose sources are one file, configured so."""
    tree = folder / "entry/linux"
    build = tree / BUILD
    build.mkdir(parents=True)
    (tree / "Makefile").touch()
    (tree / SOURCE).parent.mkdir()
    (tree / SOURCE).write_text("int up;\n")
    (build / ".config").write_text(config)
    return Kernel(
        spec="6.1",
        version="6.1.192",
        digest="d1",
        config_digest="c1",
        compiler="gcc",
        source="sources",
        image=build / "bzImage",
        vmlinux=None,
        config=KernelConfig.read(build / ".config"),
        build_dir=build,
        cc="gcc",
        module_digest="d1",
    )


class Make:
    """Makes a livepatch of a diff to ``int WORD;``, which the stand-ins for the tools read."""

    def __init__(
        self, folder: Path, kernel: Kernel, store: Store, progress: Progress, *, trees: str
    ) -> None:
        self.folder, self.kernel, self.store, self.progress = folder, kernel, store, progress
        self.place = store.root / trees / kernel.digest

    def __call__(
        self, word: str, *, source: str = SOURCE, before: str = "int up;", seconds: float = 60.0
    ) -> Path:
        diff = self.folder / "fix-up.patch"
        diff.write_text(f"--- a/{source}\n+++ b/{source}\n@@ -1 +1 @@\n-{before}\n+int {word};\n")
        return obtain_from_patch(
            diff,
            self.kernel,
            store=self.store,
            deadline=Deadline.after(seconds),
            progress=self.progress,
        )
