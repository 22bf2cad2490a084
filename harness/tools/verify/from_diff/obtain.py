# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch module made of a diff: by klp-build where the kernel has it, else by kpatch-build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.tools.verify.from_diff.klp_build import SCRIPT, KlpBuildJob
from harness.tools.verify.from_diff.kpatch_build import KpatchJob
from harness.vm.kernel.inventory import MODULES
from harness.vm.kernel.kernel import BUILD
from harness.vm.kernel.patch_file import read_patch

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress


def obtain_from_patch(
    patch: Path, kernel: Kernel, *, store: Store, deadline: Deadline, progress: Progress
) -> Path:
    """Return the livepatch module (.ko) that is made of a diff for a kernel, or was made before.

    Its name is ``livepatch-`` and that of the diff; it replaces all other patches. The first diff
    for a kernel takes longer than the next ones.
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
    made = next(entry.glob("*.ko"))
    signer = kernel.signer()
    return made if signer is None else signer.signed(made, store, deadline)


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
