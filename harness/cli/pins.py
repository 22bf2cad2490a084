# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that a command has to use: those of an earlier run, by digest.

A spec such as 6.1 or ./linux names other sources after an update or an edit.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.vm.kernel.resolved import ResolvedKernel, open_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.base import KernelFacts
    from harness.vm.host.cache import Store
    from harness.vm.kernel.build import KernelRequest
    from harness.vm.kernel.kernel import Kernel

_pinned: list[KernelFacts] = []


@contextlib.contextmanager
def pinned(kernels: Sequence[KernelFacts]) -> Iterator[None]:
    """Have commands of this process use these kernels, and refuse any other."""
    _pinned[:] = kernels
    try:
        yield
    finally:
        _pinned.clear()


def find(facts: KernelFacts, store: Store) -> Kernel | None:
    """Return that very kernel from the cache; None when it is not there any more."""
    try:
        return open_kernel(ResolvedKernel(spec=facts.spec, digest=facts.digest), store)
    except HarnessError:
        return None


def kernel_for(request: KernelRequest, store: Store) -> Kernel | None:
    """Return the kernel that is pinned for a request, if it is one and in the cache."""
    # As harness.vm.kernel.patched names patched ones: a command may use the clean kernel as well.
    named = [
        facts
        for facts in _pinned
        if facts.spec == request.spec and (" + " in facts.source) == bool(request.patches)
    ]
    return find(named[0], store) if len(named) == 1 else None


def check(kernel: Kernel) -> None:
    """Raise UsageError when kernels are pinned, and this is none of them."""
    if not _pinned or kernel.digest in {facts.digest for facts in _pinned}:
        return
    then = ", ".join(f"{each.version} ({each.source}), {each.digest[:12]}" for each in _pinned)
    raise UsageError(
        f"{kernel.spec} is now another kernel than in that result: {kernel.version} "
        f"({kernel.source}), {kernel.digest[:12]}; then it was {then}",
        hint="its sources, configuration or compiler have changed; --any-kernel takes what it is",
    )
