# SPDX-License-Identifier: GPL-2.0-only
"""Whether a configured kernel can be a guest's kernel, by its options, before it boots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import KernelUnfit
from harness.vm.kernel.signing import ENFORCING, KEY_VARIABLE, enforcing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.vm.kernel.config import KernelConfig

GUEST_NEEDS = {
    "64BIT": "the guests are x86_64",
    "BINFMT_ELF": "programs run",
    "BLK_DEV_INITRD": "the root file system is an initramfs",
    "RD_GZIP": "the initramfs is compressed with gzip",
    "DEVTMPFS": "/dev",
    "PROC_FS": "/proc, with each task's patch_state",
    "SYSFS": "/sys/kernel/livepatch",
    "TMPFS": "temporary files",
    "SERIAL_8250_CONSOLE": "the kernel log on the first serial port",
    "UNIX": "programs of the guest talk to each other",
    "INET": "SSH",
    "VIRTIO_PCI": "the guest's devices",
    "VIRTIO_NET": "the network card that SSH comes over",
    "VIRTIO_CONSOLE": "the port by which the agent is reached",
    "MODULES": "livepatches are modules",
    "MODULE_UNLOAD": "patches and targets are unloaded again",
    "LIVEPATCH": "what is tested",
}
"""Options that no guest can do without, and why."""

BOOT_MODULES = {
    "VIRTIO_PCI": "virtio_pci",
    "VIRTIO_NET": "virtio_net",
    "VIRTIO_CONSOLE": "virtio_console",
    "HW_RANDOM_VIRTIO": "virtio_rng",
    "PVPANIC_PCI": "pvpanic_pci",
}
"""Options that may be =m where a build's modules are available, and the modules that they make.
The guest loads these from its initramfs. Those not in GUEST_NEEDS may be off as well."""

ROOT_MODULES = {
    # ext4 asks for its checksums by name: nothing says that it depends on them (before 6.15).
    "CRYPTO_CRC32C": "crc32c_generic",
    "VIRTIO_BLK": "virtio_blk",
    "EXT4_FS": "ext4",
    "SQUASHFS": "squashfs",
    "OVERLAY_FS": "overlay",
}
"""The same for a guest with a root file system on a disk, of which each may be off."""

_FILE_SYSTEMS = {
    "ext4": ("EXT4_FS",),
    "squashfs": ("SQUASHFS", "OVERLAY_FS"),
}
_SYSTEMD = {
    "CGROUPS": "control groups, one for each service",
    "INOTIFY_USER": "files that are watched",
    "FHANDLE": "names of control groups",
    "TMPFS_XATTR": "labels of devices",
}

RELIABLE_STACK = {
    "STACKTRACE": "the kernel can walk stacks",
    "HAVE_RELIABLE_STACKTRACE": "CONFIG_UNWINDER_ORC selects it, or frame pointers do "
    "with CONFIG_STACK_VALIDATION",
}
"""klp_have_reliable_stack() of kernel/livepatch/transition.h, and what each option is for."""

_OTHER_MACHINES = {
    "X86_32": "32-bit x86",
    "ARM64": "arm64",
    "ARM": "arm",
    "LOONGARCH": "loongarch",
    "MIPS": "mips",
    "PPC": "powerpc",
    "RISCV": "riscv",
    "S390": "s390",
    "SPARC": "sparc",
}
_SHOWN = 3


def require_x86_64(config: KernelConfig, where: str) -> None:
    """Raise KernelUnfit when a configuration is another machine's."""
    for symbol, name in _OTHER_MACHINES.items():
        if config.enabled(symbol):
            raise KernelUnfit(
                f"{where} is for {name} (CONFIG_{symbol}=y), and the guests are x86_64",
                hint="build it with ARCH=x86_64",
            )


def require_for_guest(
    config: KernelConfig, where: str, *, modules: bool = False, signs: bool = False
) -> None:
    """Check what every guest of the harness depends on.

    ``modules``: the build's modules are available, so that BOOT_MODULES may be =m. ``signs``: there
    is a key that modules are signed with. Raises KernelUnfit, which names each option and what it
    is for.
    """
    require_x86_64(config, where)
    lacking = {
        name: purpose
        for name, purpose in GUEST_NEEDS.items()
        if config.get(name) != "y"
        and not (modules and name in BOOT_MODULES and config.enabled(name))
    }
    if lacking:
        raise KernelUnfit(
            f"{where} cannot serve as a guest's kernel: it is built without {_listed(lacking)}",
            hint="build these in (=y; a module cannot be loaded that early), or add the fragments "
            "base and livepatch",
            details=_lines(lacking),
        )
    name = enforcing(config)
    if name is not None and not signs:
        raise KernelUnfit(
            f"{where} cannot be tested: with CONFIG_{name}=y {ENFORCING[name]}, and there is no "
            "key to sign them with",
            hint=f"{KEY_VARIABLE}=FILE names a key that it trusts; or turn CONFIG_{name} off",
        )


def require_for_root(
    config: KernelConfig, where: str, *, file_system: str, systemd: bool, modules: Iterable[str]
) -> None:
    """Check what a guest with a root file system on a disk depends on beside that.

    ``modules`` are the names of those at hand. Raises KernelUnfit.
    """
    wanted = {"VIRTIO_BLK": "the disk"}
    wanted |= dict.fromkeys(_FILE_SYSTEMS[file_system], f"a root file system of {file_system}")
    wanted |= _SYSTEMD if systemd else {}
    names = set(modules)
    lacking = {
        symbol: purpose
        for symbol, purpose in wanted.items()
        if config.get(symbol) != "y"
        and not (config.get(symbol) == "m" and ROOT_MODULES.get(symbol) in names)
    }
    if lacking:
        raise KernelUnfit(
            f"{where} cannot have that root file system: it is built without {_listed(lacking)}",
            hint="--kernel-config rootfs adds them; a distribution's kernel has them as modules",
            details=_lines(lacking),
        )


def require_reliable_stack(config: KernelConfig, where: str) -> None:
    """Check that the kernel can trust the stack of a sleeping task.

    Without that a transition only ends when each task leaves the kernel by itself, and most tests
    would wait for their deadlines. Raises KernelUnfit.
    """
    lacking = {name: purpose for name, purpose in RELIABLE_STACK.items() if config.get(name) != "y"}
    if lacking:
        raise KernelUnfit(
            f"{where} has no reliable unwinder: it is built without {_listed(lacking)}",
            hint="build it with CONFIG_UNWINDER_ORC=y and CONFIG_STACKTRACE=y",
            details=_lines(lacking),
        )


def _listed(lacking: dict[str, str]) -> str:
    shown = ", ".join(f"CONFIG_{name}" for name in list(lacking)[:_SHOWN])
    more = len(lacking) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _lines(lacking: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"CONFIG_{name}: {purpose}" for name, purpose in lacking.items())
