# SPDX-License-Identifier: GPL-2.0-only
"""The kernels of a run: each is resolved once, and every process of the run opens the same.

An edit of ``--kernel ./linux`` during the run changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

from filelock import FileLock

from harness.deadline import Deadline
from harness.pytest_plugin.options import plan
from harness.vm.guest import runs
from harness.vm.kernel.build import obtain_kernel
from harness.vm.kernel.resolved import ResolvedKernel, open_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pytest

    from harness.vm.kernel.build import KernelRequest
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

_KERNEL_S = 3600.0


class GivenKernels:
    """A plugin for the controller of a run whose kernels are built already."""

    def __init__(self, kernels: Mapping[KernelRequest, Kernel]) -> None:
        self._kernels = kernels

    def pytest_configure(self, config: pytest.Config) -> None:
        """Record them before a worker or a test needs one."""
        for request, kernel in self._kernels.items():
            with _locked(plan(config).kernels, request) as file:
                _record(file, kernel)


def kernel_of_run(folder: Path, request: KernelRequest, progress: Progress) -> Kernel:
    """Return the kernel that the request named when a process of the run first needed it.

    ``folder`` is that of the run's plan. Raises what `obtain_kernel` and `open_kernel` raise.
    """
    with _locked(folder, request) as file:
        if file.exists():
            return open_kernel(ResolvedKernel(**json.loads(file.read_text())), runs.store())
        kernel = obtain_kernel(
            request, store=runs.store(), deadline=Deadline.after(_KERNEL_S), progress=progress
        )
        _record(file, kernel)
        return kernel


@contextlib.contextmanager
def _locked(folder: Path, request: KernelRequest) -> Iterator[Path]:
    """Yield the file that names the request's kernel, locked: one process builds, others wait."""
    wanted = dataclasses.asdict(request)
    wanted["patches"] = [str(path.absolute()) for path in request.patches]
    wanted["config"] = str(request.config.absolute()) if request.config is not None else None
    name = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(folder / f"{name}.lock"):
        yield folder / f"{name}.json"


def _record(file: Path, kernel: Kernel) -> None:
    resolved = ResolvedKernel.of(kernel, runs.store())
    file.write_text(json.dumps(dataclasses.asdict(resolved)))
