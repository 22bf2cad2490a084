# SPDX-License-Identifier: GPL-2.0-only
"""What commands that start guests do first: choose the accelerator, obtain kernel and modules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.behaviours.mutants import choose, fitted, load_mutants, series_of
from harness.cli import pins
from harness.deadline import Deadline
from harness.resources import Resource, resource_dir
from harness.vm.guest import runs
from harness.vm.kernel.build import check_request, obtain_kernel
from harness.vm.kernel.module import obtain_modules
from harness.vm.kernel.patch_file import read_patch
from harness.vm.kernel.patched import obtain_patched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.cli.invocation import Invocation
    from harness.cli.options import CleanKernel, KernelOptions
    from harness.report.terminal import Terminal
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

# A debug kernel on a busy machine has taken more than an hour; its progress is shown meanwhile.
_KERNEL_S = 4 * 3600.0
_MODULES_S = 1800.0


def prepare_accel(invocation: Invocation, name: str) -> AccelChoice:
    """Choose the accelerator; raises HarnessError when that one cannot run a guest."""
    invocation.accel = runs.accelerator(name)
    return invocation.accel


def prepare_kernel(
    invocation: Invocation, options: CleanKernel, *, terminal: Terminal | None = None
) -> Kernel:
    """Obtain the kernel, with progress; raises UsageError, HarnessError, KernelBuildFailed.

    ``terminal`` shows the progress where it is not the command's own.
    """
    kernel = _obtain(terminal or invocation.terminal, options)
    pins.check(kernel, options.request())
    invocation.kernels.append(kernel)
    return kernel


def check_kernels(*options: CleanKernel) -> None:
    """Refuse what can be seen to be wrong with options before the first kernel is built.

    Raises UsageError.
    """
    for each in options:
        check_request(each.request())


def with_mutants(terminal: Terminal, options: KernelOptions, names: Sequence[str]) -> KernelOptions:
    """Return the options with the patches of kernel mutants, which come before those given.

    Each is taken as it is written for the kernel's series, so the clean kernel is obtained first.
    Raises UsageError for a name unknown, and what `prepare_kernel` does.
    """
    if not names:
        return options
    check_kernels(options)
    chosen = choose(load_mutants(resource_dir(Resource.KERNEL_MUTANTS)), names)
    clean = _obtain(terminal, replace(options, patches=()))
    paths = tuple(mutant.path for mutant in fitted(chosen, series_of(clean.version)))
    return replace(options, patches=(*paths, *options.patches))


def prepare_modules(
    terminal: Terminal,
    kernel: Kernel,
    folder: Path | None = None,
    *,
    variables: tuple[str, ...] = (),
) -> Mapping[str, Path]:
    """Build a folder of module sources, by default the samples: module name to .ko file.

    ``variables`` are for make.
    """
    with terminal.progress() as progress:
        source = folder if folder is not None else resource_dir(Resource.LIVEPATCH_MODULES)
        progress.stage(f"modules of {source.name} for {kernel.version}")
        return obtain_modules(
            kernel,
            source,
            variables=variables,
            store=runs.store(),
            deadline=Deadline.after(_MODULES_S),
        )


def _obtain(terminal: Terminal, options: CleanKernel) -> Kernel:
    request, store = options.request(), runs.store()
    deadline = Deadline.after(_KERNEL_S)
    pinned = pins.kernel_for(request, store)
    if pinned is not None:
        return pinned
    base = pins.base_for(request, store)
    with terminal.progress() as progress:
        if base is None:
            return obtain_kernel(request, store=store, deadline=deadline, progress=progress)
        patches = tuple(read_patch(path) for path in request.patches)
        return obtain_patched(base, patches, store=store, deadline=deadline, progress=progress)
