# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that was resolved: what another process needs to open the very same one.

A spec such as ``./linux`` names other sources after the next edit; a digest does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import CacheCorrupt, HarnessError, UsageError
from harness.vm.kernel.inventory import PACKAGES
from harness.vm.kernel.kernel import KIND, kernel_in, read_metadata
from harness.vm.kernel.packaged import packaged_in
from harness.vm.kernel.patched import patched_in
from harness.vm.kernel.prebuilt import kernel_from_build
from harness.vm.kernel.source import TREE

if TYPE_CHECKING:
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class ResolvedKernel:
    """The kernel that a spec named. ``folder``: of a finished build; None: it is in the cache."""

    spec: str
    digest: str
    folder: str | None = None

    @classmethod
    def of(cls, kernel: Kernel, store: Store) -> ResolvedKernel:
        """Return what `open_kernel` needs to know of a kernel."""
        in_cache = kernel.image.is_relative_to(store.root)
        folder = None if in_cache else str(kernel.build_dir)
        return cls(spec=kernel.spec, digest=kernel.digest, folder=folder)


def open_kernel(resolved: ResolvedKernel, store: Store) -> Kernel:
    """Return the kernel from the cache, or from its build folder, and build nothing.

    Raises HarnessError when it is no longer in the cache, UsageError when its build folder has
    changed, CacheCorrupt.
    """
    spec, digest = resolved.spec, resolved.digest
    if resolved.folder is not None:
        kernel = kernel_from_build(Path(resolved.folder), spec)
        if kernel.digest != digest:
            raise UsageError(f"the build in {resolved.folder} was changed during the run")
        return kernel
    packaged = store.find(PACKAGES, digest)
    if packaged is not None:
        return packaged_in(packaged, spec)
    entry = store.find(KIND, digest)
    if entry is None:
        raise HarnessError(f"the kernel {spec} ({digest[:12]}) is no longer in the cache")
    if (entry / TREE).is_dir():
        return kernel_in(entry, spec)
    base = read_metadata(entry).base
    if base is None:
        raise CacheCorrupt(f"the cached kernel {entry} has neither sources nor a clean kernel")
    return patched_in(entry, open_kernel(ResolvedKernel(spec=spec, digest=base), store))
