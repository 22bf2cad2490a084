# SPDX-License-Identifier: GPL-2.0-only
"""Finished kernels of a distribution, by how they are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.vm.kernel.finished_spec import InstalledSpec, PackageFilesSpec
from harness.vm.kernel.installed import kernel_from_installed
from harness.vm.kernel.packaged import kernel_from_files, kernel_from_package

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.finished_spec import FinishedSpec
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress


def finished_kernel_of(
    named: FinishedSpec, spec: str, *, store: Store, deadline: Deadline, progress: Progress
) -> Kernel:
    """Return the kernel that is installed or packaged, from the cache or copied there now.

    Raises UsageError when a part of it is missing, KernelUnfit when it cannot be tested,
    DownloadFailed, MissingTool, NoSpace.
    """
    if isinstance(named, InstalledSpec):
        return kernel_from_installed(named, spec, store=store, deadline=deadline, progress=progress)
    if isinstance(named, PackageFilesSpec):
        return kernel_from_files(named, spec, store=store, deadline=deadline, progress=progress)
    return kernel_from_package(named, spec, store=store, deadline=deadline, progress=progress)
