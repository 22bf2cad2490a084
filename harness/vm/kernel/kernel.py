# SPDX-License-Identifier: GPL-2.0-only
"""A built kernel: what guests boot and what modules are built against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import CacheCorrupt
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.signing import Signer, find_signer
from harness.vm.kernel.source import TREE
from harness.vm.kernel.toolchain import Toolchain, find_toolchain, is_clang

KIND = "kernel"
METADATA = "kernel.json"
BUILD = "klp-build"
"""The O= folder, directly inside the sources: Kbuild then names the sources ``..`` throughout, so
that the pair can be renamed and copied, and ccache knows the same file in another kernel's folder
(top Makefile, "building in a subdirectory of the source tree")."""


SIGNED_WORD = "klp_harness.signed"
"""On the command line: the modules that the guest gets are signed. The kernel ignores it."""

# Where SeaBIOS puts the power management of QEMU's machine `pc` (0x600), and its timer in that.
_PM_TIMER_PORT = 0x608
# Ticks of a time stamp counter in a second that no host exceeds.
_MOST_TSC_HZ = 6_000_000_000
_NOT_ENTERED_DIRECTLY = ("DEBUG_INFO", "KASAN", "KCSAN", "KMSAN", "RANDOMIZE_BASE")

# CPU time of a boot under TCG with kernel-configs/debug.config against without: 12 s and 1.8 s. Of
# lockdep alone, and of KCSAN, nothing is measured.
_SLOWNESS = {"KASAN": 7.0, "KCSAN": 3.0, "PROVE_LOCKING": 3.0}


class Bootable(Protocol):
    """What guests need of a kernel: a Kernel, or one of which no more than the image is here."""

    @property
    def version(self) -> str:
        """The release string."""

    @property
    def digest(self) -> str:
        """The name of everything that went into the build."""

    @property
    def image(self) -> Path:
        """What QEMU starts: the bzImage, or the vmlinux of one that has none."""

    @property
    def boot_modules(self) -> tuple[Path, ...]:
        """Modules that a guest loads from its initramfs, in this order."""

    @property
    def root_modules(self) -> tuple[Path, ...]:
        """Modules that a guest with a disk loads after those, in this order."""

    @property
    def slowness(self) -> float:
        """How many times longer it takes than a kernel without debug options; at least 1."""

    @property
    def boot_args(self) -> tuple[str, ...]:
        """What has to be on its command line."""

    def describe(self) -> str:
        """Return version and origin in words."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A built kernel.

    ``spec`` is as typed, ``version`` the release string, ``digest`` names everything that went into
    the build, ``compiler`` is the first line of gcc --version, ``source`` describes what it was
    built from, ``build_dir`` is what modules are built against with make -C, ``cc`` is the CC that
    Kbuild was given. ``module_digest`` names the kernel that modules are built for: that of a
    patched kernel is the clean one's when the patch changes nothing that a module sees.
    ``vmlinux``: None for a packaged kernel without its debug information. ``symbols`` is then its
    System.map or the like, if there is one: see `harness.vm.kernel.symbols`. ``boot_modules`` are
    what a guest must load, in this order, before it has devices and a network, ``root_modules``
    what it loads then for a root file system on a disk. ``module_variables`` are for make, whenever
    a module is built for it.
    """

    spec: str
    version: str
    digest: str
    config_digest: str
    compiler: str
    source: str
    image: Path
    vmlinux: Path | None
    config: KernelConfig
    build_dir: Path
    cc: str
    module_digest: str
    boot_modules: tuple[Path, ...] = ()
    root_modules: tuple[Path, ...] = ()
    symbols: Path | None = None
    module_variables: tuple[str, ...] = ()

    @property
    def slowness(self) -> float:
        """How many times longer it takes than a kernel without KASAN, KCSAN and lockdep."""
        return max(
            (factor for symbol, factor in _SLOWNESS.items() if self.config.enabled(symbol)),
            default=1.0,
        )

    @property
    def boot_args(self) -> tuple[str, ...]:
        """What has to be on its command line.

        SIGNED_WORD lets a guest enforce signatures. With KASAN the AML of _PRT takes more than
        the 30 s after which ACPI aborts it, under TCG and for each device. A kernel that reads the
        MP table finds the same there. Without ACPI it has to be said where the timer of QEMU's
        PIIX4 is (drivers/clocksource/acpi_pm.c), or its clock is jiffies. Each further CPU would
        measure how long its loops of udelay() are (init/calibrate.c), in a tenth of a second under
        TCG. They may be longer than they need be, but not shorter.
        """
        has_acpi = self.config.enabled("ACPI")
        slow_aml = self.config.enabled("KASAN") and self.config.enabled("X86_MPPARSE")
        blind = self.config.enabled("X86_PM_TIMER") and not has_acpi
        hz = self.config.get("HZ")
        return (
            *([f"lpj={_MOST_TSC_HZ // int(hz)}"] if hz is not None else []),
            *(["pci=noacpi"] if has_acpi and slow_aml else []),
            *([f"pmtmr={_PM_TIMER_PORT:#x}"] if blind else []),
            *([SIGNED_WORD] if self.signer() is not None else []),
        )

    @property
    def is_clang_built(self) -> bool:
        """Whether clang compiled it, and so has to compile its modules."""
        return self.config.enabled("CC_IS_CLANG") or is_clang(self.compiler)

    def signer(self) -> Signer | None:
        """Return what signs modules for it; None when that is not wanted, or no key is here."""
        return find_signer(self.config, self.build_dir)

    def toolchain(self) -> Toolchain:
        """Return what its modules are compiled with on this host. Raises MissingTool."""
        return find_toolchain(llvm=self.is_clang_built)

    def describe(self) -> str:
        """Return version and origin, for example ``6.1.192 (linux-source-6.1 6.1.192-2)``."""
        return f"{self.version} ({self.source})"


def starts_as_vmlinux(config: KernelConfig) -> bool:
    """Return whether QEMU can enter the vmlinux of such a kernel, which unpacks nothing.

    CONFIG_PVH makes that entry (arch/x86/platform/pvh). It was not tried where the compiler adds
    checks of memory accesses, so these kernels start as a bzImage. A bzImage is also what chooses a
    random address, and much the smaller file where there is debug information.
    """
    return config.enabled("PVH") and not any(map(config.enabled, _NOT_ENTERED_DIRECTLY))


def image_target(config: KernelConfig) -> str:
    """Return the target of make that gives what starts; a vmlinux needs no bzImage beside it."""
    return "vmlinux" if starts_as_vmlinux(config) else "bzImage"


def kernel_in(entry: Path, spec: str) -> Kernel:
    """Return the kernel in a cache entry.

    Raises CacheCorrupt when its description cannot be read.
    """
    metadata = read_metadata(entry)
    build_dir = entry / TREE / BUILD
    config = KernelConfig.read(build_dir / ".config")
    vmlinux = build_dir / "vmlinux"
    return Kernel(
        spec=spec,
        version=metadata.version,
        digest=metadata.digest,
        config_digest=config.digest(),
        compiler=metadata.compiler,
        source=metadata.source,
        image=vmlinux if starts_as_vmlinux(config) else build_dir / "arch/x86/boot/bzImage",
        vmlinux=vmlinux,
        config=config,
        build_dir=build_dir,
        cc=metadata.cc,
        module_digest=metadata.digest,
    )


class Metadata(BaseModel):
    """The description of a kernel's cache entry: what `Kernel` has under the same names.

    ``source_digest`` names its sources in the cache, ``base`` the clean kernel of a patched one,
    ``objects`` is how many the build compiled. ``headers`` is the folder that modules of an
    installed kernel are built against, when that is a tree of the user.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    digest: str
    compiler: str
    source: str
    source_digest: str
    cc: str = "gcc"
    series: str = ""
    objects: str = ""
    base: str | None = None
    headers: Path | None = None


def read_metadata(entry: Path) -> Metadata:
    """Return the description of a kernel's cache entry. Raises CacheCorrupt."""
    try:
        metadata = Metadata.model_validate_json((entry / METADATA).read_bytes())
    except (OSError, ValidationError) as error:
        raise CacheCorrupt(
            f"the cached kernel {entry} has no readable description",
            hint="`klp-harness kernel prune` removes it",
        ) from error
    if metadata.digest != entry.name:
        raise CacheCorrupt(
            f"the cached kernel {entry} has the description of another",
            hint="`klp-harness kernel prune` removes it",
        )
    return metadata
