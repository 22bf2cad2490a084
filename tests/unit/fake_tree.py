# SPDX-License-Identifier: GPL-2.0-only
"""What the kernels of the tree in ``conftest.py`` have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.kernel.kernel import Kernel


def vmlinux_of(kernel: Kernel) -> Path:
    """Return the vmlinux that a kernel built from sources always has."""
    assert kernel.vmlinux is not None
    return kernel.vmlinux
