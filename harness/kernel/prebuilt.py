# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that somebody else built: its build folder is used as it is, and not written to."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.kernel.config import KernelConfig, require_for_guest
from harness.kernel.kernel import Kernel

if TYPE_CHECKING:
    from pathlib import Path

_NEEDED = (
    "vmlinux",
    "arch/x86/boot/bzImage",
    ".config",
    "Module.symvers",
    "include/config/kernel.release",
)


def kernel_from_build(folder: Path, spec: str) -> Kernel:
    """Return the kernel in a finished build folder, in-tree or O=.

    Raises UsageError when the build is not finished, or lacks what a guest needs to boot.
    """
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"{folder} holds no finished build: it lacks {missing[0]}",
            hint="run make bzImage modules there; a source tree is given without build:",
        )
    config = KernelConfig.read(folder / ".config")
    require_for_guest(config, str(folder / ".config"))
    digest = hashlib.sha256()
    for name in _NEEDED[1:]:
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    name = digest.hexdigest()[:32]
    return Kernel(
        spec=spec,
        version=(folder / "include/config/kernel.release").read_text().strip(),
        digest=name,
        config_digest=config.digest(),
        compiler=config.get("CC_VERSION_TEXT") or "an unknown compiler",
        source=f"the build in {folder}",
        image=folder / "arch/x86/boot/bzImage",
        vmlinux=folder / "vmlinux",
        config=config,
        build_dir=folder,
        cc="gcc",
        module_digest=name,
    )
