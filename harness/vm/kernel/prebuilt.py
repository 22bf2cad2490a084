# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that somebody else built: its build folder is read, and never written to."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.errors import KernelUnfit, UsageError
from harness.vm.kernel.boot_modules import boot_modules, by_name, root_modules
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.kernel import Kernel
from harness.vm.kernel.module_build import module_variables
from harness.vm.kernel.requirements import (
    BOOT_MODULES,
    GUEST_NEEDS,
    RELIABLE_STACK,
    require_for_guest,
    require_reliable_stack,
    require_x86_64,
)
from harness.vm.kernel.signing import find_signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_NEEDED = (
    "vmlinux",
    "arch/x86/boot/bzImage",
    ".config",
    "Module.symvers",
    "include/config/kernel.release",
)
_AUTO_CONF = "include/config/auto.conf"
# struct setup_header, Documentation/arch/x86/boot.rst
_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_XLOADFLAGS_AT, _XLF_KERNEL_64 = 0x236, 1


def kernel_from_build(folder: Path, spec: str) -> Kernel:
    """Return the kernel in a finished build folder, in-tree or O=.

    Raises UsageError when the build is not finished, KernelUnfit when it lacks what a guest needs
    to boot or a test needs to mean anything.
    """
    dot_config = folder / ".config"
    if dot_config.is_file():
        require_x86_64(KernelConfig.read(dot_config), str(dot_config))
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"{folder} holds no finished build: it lacks {missing[0]}",
            hint="run make bzImage modules there; a source tree is given without build:",
        )
    config = KernelConfig.read(dot_config)
    _require_as_built(config, folder)
    digest = hashlib.sha256()
    for name in _NEEDED[1:]:
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return finished_kernel(
        config,
        spec=spec,
        where=str(dot_config),
        version=(folder / "include/config/kernel.release").read_text(errors="replace").strip(),
        digest=digest.hexdigest()[:32],
        source=f"the build in {folder}",
        image=folder / "arch/x86/boot/bzImage",
        vmlinux=folder / "vmlinux",
        build_dir=folder,
        modules=_built_modules(folder),
    )


def finished_kernel(
    config: KernelConfig,
    *,
    spec: str,
    where: str,
    version: str,
    digest: str,
    source: str,
    image: Path,
    vmlinux: Path | None,
    build_dir: Path,
    modules: Iterable[Path],
    symbols: Path | None = None,
) -> Kernel:
    """Return a kernel that somebody else built, with all its ``modules``.

    ``where`` names in words what is at fault. Raises UsageError, and KernelUnfit when the kernel
    lacks what a guest needs to boot or a test needs to mean anything.
    """
    signs = find_signer(config, build_dir) is not None
    require_for_guest(config, where, modules=True, signs=signs)
    require_reliable_stack(config, where)
    require_image(image)
    files = by_name(modules)
    return Kernel(
        spec=spec,
        version=version,
        digest=digest,
        config_digest=config.digest(),
        compiler=config.get("CC_VERSION_TEXT") or "an unknown compiler",
        source=source,
        image=image,
        vmlinux=vmlinux,
        config=config,
        build_dir=build_dir,
        cc="gcc",
        module_digest=digest,
        boot_modules=boot_modules(config, files, where),
        root_modules=root_modules(config, files),
        symbols=symbols,
        module_variables=module_variables(config, build_dir, where),
    )


def require_image(image: Path) -> None:
    """Raise UsageError when a file is no image of an x86_64 kernel that QEMU can start."""
    with image.open("rb") as file:
        head = file.read(_XLOADFLAGS_AT + 2)
    if head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        raise UsageError(f"{image} is no bzImage of an x86 kernel", hint="run make bzImage again")
    if len(head) <= _XLOADFLAGS_AT or not head[_XLOADFLAGS_AT] & _XLF_KERNEL_64:
        raise KernelUnfit(
            f"{image} is a 32-bit kernel (CONFIG_64BIT is off), and the guests are x86_64",
            hint="build it with CONFIG_64BIT=y",
        )


def _require_as_built(config: KernelConfig, folder: Path) -> None:
    """Refuse a .config that was changed after the build; what was built is in auto.conf."""
    if not (folder / _AUTO_CONF).is_file():
        return
    built = KernelConfig.read(folder / _AUTO_CONF)
    for name in (*GUEST_NEEDS, *RELIABLE_STACK, *BOOT_MODULES):
        if config.get(name) != built.get(name):
            raise UsageError(
                f"{folder}/.config was changed after the build: CONFIG_{name} is "
                f"{config.get(name) or 'off'} there and was built as {built.get(name) or 'off'}",
                hint="run make there again",
            )


def _built_modules(folder: Path) -> Iterator[Path]:
    """Yield the modules that the build lists, which has had two formats (Makefile.modpost)."""
    listed = folder / "modules.order"
    if not listed.is_file():
        return
    for line in listed.read_text(errors="replace").splitlines():
        name = line.removeprefix("kernel/").removesuffix(".o").removesuffix(".ko")
        path = folder / f"{name}.ko"
        if path.is_file():
            yield path
