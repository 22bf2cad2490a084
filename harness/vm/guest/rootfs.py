# SPDX-License-Identifier: GPL-2.0-only
"""The root file system that --rootfs asks for: looked at first, then made, then checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.vm.guest import runs

if TYPE_CHECKING:
    from harness.vm.guest.root_disk import RootDisk
    from harness.vm.guest.root_spec import RootSpec
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

_MAKE_S = 3600.0


def check_root(text: str | None, *, init: bool) -> RootSpec | None:
    """Return what --rootfs names, None where it names nothing.

    Programs that it needs are installed where that is possible. Raises UsageError.
    """
    if text is None:
        if init:
            raise UsageError(
                "--rootfs-init starts the init of a root file system, and there is none",
                hint="--rootfs deb:bookworm is one",
            )
        return None
    # Imported here: few guests have a disk.
    from harness.vm.guest.root_image import needed_tools
    from harness.vm.guest.root_spec import parse_root
    from harness.vm.host.bootstrap import install_packages
    from harness.vm.host.tools import read_distribution

    install_packages(read_distribution(), look=lambda _: needed_tools(text), to_stderr=True)
    return parse_root(text, init=init)


def obtain(spec: RootSpec, progress: Progress, *, init: bool) -> RootDisk:
    """Make the root file system, or find it in the cache."""
    from harness.vm.guest.root_image import obtain_root

    return obtain_root(
        spec, init=init, store=runs.store(), deadline=Deadline.after(_MAKE_S), progress=progress
    )


def require_fitting(kernel: Kernel, root: RootDisk | None) -> None:
    """Raise KernelUnfit when a kernel cannot have this root file system."""
    if root is None:
        return
    from harness.vm.kernel.requirements import require_for_root

    require_for_root(
        kernel.config,
        f"the kernel {kernel.describe()}",
        file_system=root.file_system,
        systemd=root.systemd,
        modules=[path.stem for path in kernel.root_modules],
    )
