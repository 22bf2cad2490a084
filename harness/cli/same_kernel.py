# SPDX-License-Identifier: GPL-2.0-only
"""The kernel of the machine that sends a job, obtained by its spec on the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.log import LOGGER
from harness.vm.guest import runs
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from harness.vm.kernel.kernel import Kernel

_KERNEL_S = 4 * 3600.0


def obtain_same(request: KernelRequest, digest: str) -> Kernel:
    """Return the kernel; raises HarnessError when it has another digest here."""
    kernel = obtain_kernel(
        request,
        store=runs.store(),
        deadline=Deadline.after(_KERNEL_S),
        progress=LineProgress(LOGGER.info),
    )
    if kernel.digest != digest:
        raise HarnessError(
            f"{request.spec} is another kernel on this worker: {kernel.digest[:12]}, "
            f"and {digest[:12]} on the machine that sent the job",
            hint="sources and compiler have to be the same on all machines",
        )
    return kernel
