# SPDX-License-Identifier: GPL-2.0-only
"""A kernel with patches on its sources: built in a warm workspace, kept beside the clean one.

Patches are applied by patch(1) without fuzz, to copies of the files that they name; only when all
have applied are the results put into the workspace. What make then has to do is a few objects and
the final link.

Modules are built against the clean kernel, once for all patched ones, unless the patch changes what
a module's build depends on: a header in an include folder, the configuration, what is exported, or
the build's own tools. Then the entry has sources and a build of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import PatchDoesNotApply
from harness.vm.host.process import run
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.kbuild import ObjectCounter, build_log, make, make_relocatable
from harness.vm.kernel.kernel import BUILD, KIND, METADATA, image_target, kernel_in, read_metadata
from harness.vm.kernel.patch_file import changes_options, modules_see
from harness.vm.kernel.source import TREE
from harness.vm.kernel.toolchain import Toolchain, jobs
from harness.vm.kernel.workspace import link_tree, opened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.patch_file import PatchFile
    from harness.vm.kernel.progress import Progress
    from harness.vm.kernel.workspace import Workspace

_FORMAT = 2
_IMAGE = "arch/x86/boot/bzImage"
_EXPORTED = "Module.symvers"
_PATCHES = "patches"
_APPLY = ("-p1", "--fuzz=0", "--forward", "--batch", "--no-backup-if-mismatch", "--reject-file=-")


def obtain_patched(
    base: Kernel,
    patches: Sequence[PatchFile],
    *,
    store: Store,
    deadline: Deadline,
    progress: Progress,
) -> Kernel:
    """Return a kernel of the cache with patches applied, built now or taken from the cache.

    Raises PatchDoesNotApply, KernelBuildFailed, NoSpace, MissingTool, and HarnessError when time is
    up. The clean kernel is only read; see `harness.vm.kernel.workspace`.
    """
    job = _Build(
        base=base,
        key=patched_key(base.digest, patches),
        patches=tuple(patches),
        store=store,
        deadline=deadline,
        progress=progress,
    )
    entry = store.obtain(
        KIND,
        job.key,
        job.fill,
        deadline=deadline,
        on_wait=lambda: progress.stage(f"waiting for another build of {job.description}"),
    )
    return patched_in(entry, base)


def patched_in(entry: Path, base: Kernel) -> Kernel:
    """Return the patched kernel in a cache entry; raises CacheCorrupt as `kernel_in` does."""
    if (entry / TREE).is_dir():
        return kernel_in(entry, base.spec)
    metadata = read_metadata(entry)
    vmlinux = entry / "vmlinux"
    return replace(
        base,
        digest=metadata.digest,
        source=metadata.source,
        image=vmlinux if base.image == base.vmlinux else entry / "bzImage",
        vmlinux=vmlinux,
    )


def patched_key(base: str, patches: Sequence[PatchFile]) -> str:
    """Return the name of a patched build: the clean one's, and every patch in its order."""
    parts = [_FORMAT, base, [[patch.name, patch.digest] for patch in patches]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class _Build:
    base: Kernel
    key: str
    patches: tuple[PatchFile, ...]
    store: Store
    deadline: Deadline
    progress: Progress

    @property
    def description(self) -> str:
        return " + ".join([self.base.source, *(patch.name for patch in self.patches)])

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for patch in self.patches for name in patch.files))

    def fill(self, folder: Path) -> None:
        clean = self.base.build_dir.parent
        results = folder / "changed"
        self._apply(clean, folder / _PATCHES, results)
        with (
            build_log(self.store, f"kernel-{self.key}", folder) as log_path,
            opened(
                self.store.root,
                self.base.digest,
                clean,
                deadline=self.deadline,
                on_wait=lambda: self.progress.stage(
                    "waiting for another build of a patched kernel"
                ),
            ) as workspace,
        ):
            for name in self.files:
                result = results / name
                workspace.put(name, result if result.exists() else None)
            if changes_options(self.files):
                self._make(workspace, log_path, "olddefconfig")
            # The patches may have changed the configuration.
            target = image_target(KernelConfig.read(workspace.build / ".config"))
            self._make(workspace, log_path, jobs(), target, "modules")
            if self._is_for_modules_of(clean, workspace):
                names = ("vmlinux",) if target == "vmlinux" else ("vmlinux", _IMAGE)
                for name in names:
                    shutil.copyfile(workspace.build / name, folder / name.rpartition("/")[2])
            else:
                self._keep_tree(workspace, folder)
        shutil.rmtree(results)
        metadata = read_metadata(clean.parent).model_copy(
            update={"digest": self.key, "source": self.description, "base": self.base.digest}
        )
        (folder / METADATA).write_text(metadata.model_dump_json(indent=1))

    def _apply(self, clean: Path, kept: Path, results: Path) -> None:
        """Write the files that the patches change, as patched, and the patches themselves."""
        kept.mkdir()
        results.mkdir()
        for name in self.files:
            if (clean / name).is_file():
                (results / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(clean / name, results / name)
        for number, patch in enumerate(self.patches, start=1):
            file = kept / f"{number}-{patch.name}"
            file.write_bytes(patch.content)
            run(
                ["patch", *_APPLY, f"--directory={results}", f"--input={file}"],
                deadline=self.deadline,
                explain=lambda error, name=patch.name: PatchDoesNotApply(  # type: ignore[misc]
                    f"{name} does not apply to {self.base.describe()}",
                    hint="it has to fit without fuzz; several patches apply in the order given",
                    details=error.details,
                ),
            )

    def _make(self, workspace: Workspace, log_path: Path, *targets: str) -> None:
        self.progress.stage(f"building {self.description}")
        # The same CC as before: another one would compile everything again.
        toolchain = Toolchain(
            cc=self.base.cc, compiler=self.base.compiler, linker="", llvm=self.base.is_clang_built
        )
        make(
            workspace.tree,
            toolchain,
            f"O={BUILD}",
            *targets,
            what=self.description,
            log_path=log_path,
            deadline=self.deadline,
            ccache=False,
            on_line=ObjectCounter(self.progress, None),
        )

    def _is_for_modules_of(self, clean: Path, workspace: Workspace) -> bool:
        """Return whether modules of the clean kernel are this one's, too."""
        exported = (workspace.build / _EXPORTED).read_bytes()
        same_exports = exported == (clean / BUILD / _EXPORTED).read_bytes()
        return same_exports and not modules_see(self.files)

    def _keep_tree(self, workspace: Workspace, folder: Path) -> None:
        link_tree(workspace.tree, folder / TREE, self.deadline)
        make_relocatable(workspace.tree)
        # On the same file system: both lie in the cache.
        workspace.build.rename(folder / TREE / BUILD)
