# SPDX-License-Identifier: GPL-2.0-only
"""Options that several commands share: each is declared and explained once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.vm.kernel.build import DEFAULT_SPEC, KernelRequest

_SPEC_HELP = (
    "Kernel to use: a version that Debian has (6.1, 6.12, newest), a release of kernel.org "
    "(v6.6.52, 6.6), a source tree, git:REV, a tarball or URL, build:DIR, installed, "
    "/boot/vmlinuz-X, deb: or rpm: with the name of a package or with files (deb:A.deb,B.deb)."
)

Fragments = Annotated[
    tuple[str, ...],
    typer.Option(
        "--kernel-config",
        metavar="FRAGMENT",
        help="Config fragment on top of base and livepatch: a name in kernel-configs or a file. "
        "Repeatable.",
    ),
]
Patches = Annotated[
    tuple[Path, ...],
    typer.Option(
        "--patch",
        metavar="FILE",
        help="Patch to apply to the kernel's sources, without fuzz. Repeatable.",
    ),
]
WholeConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Whole .config to build the sources with, such as a distribution's.",
    ),
]
Llvm = Annotated[
    bool, typer.Option("--llvm", help="Build kernel and modules with clang and lld (LLVM=1).")
]
Sha256 = Annotated[
    str | None,
    typer.Option("--sha256", metavar="HEX", help="Digest that a tarball or URL must have."),
]


@dataclass(frozen=True, kw_only=True)
class CleanKernel:
    """The options that choose a kernel whose sources are not patched."""

    spec: Annotated[str, typer.Option("--kernel", metavar="SPEC", help=_SPEC_HELP)] = DEFAULT_SPEC
    fragments: Fragments = ()
    config: WholeConfig = None
    llvm: Llvm = False
    sha256: Sha256 = None

    def request(self) -> KernelRequest:
        """Return what the kernel layer builds, or finds in its cache."""
        return KernelRequest(
            spec=self.spec,
            sha256=self.sha256,
            fragments=("base", "livepatch", *self.fragments),
            patches=getattr(self, "patches", ()),
            config=self.config,
            llvm=self.llvm,
        )

    def as_arguments(self) -> tuple[str, ...]:
        """Return the options as words of a command line of this program, or of pytest."""
        return (
            f"--kernel={self.spec}",
            *(f"--kernel-config={name}" for name in self.fragments),
            *(f"--patch={path.absolute()}" for path in getattr(self, "patches", ())),
            *([f"--config={self.config.absolute()}"] if self.config is not None else []),
            *(["--llvm"] if self.llvm else []),
            *([f"--sha256={self.sha256}"] if self.sha256 is not None else []),
        )


@dataclass(frozen=True, kw_only=True)
class KernelOptions(CleanKernel):
    """The options that choose a kernel, with patches of its sources."""

    patches: Patches = ()


@dataclass(frozen=True, kw_only=True)
class KernelsOptions:
    """The options that choose several kernels, all built in one way."""

    specs: Annotated[
        tuple[str, ...],
        typer.Option("--kernel", metavar="SPEC", help=_SPEC_HELP + " Repeatable."),
    ] = ()
    fragments: Fragments = ()
    patches: Patches = ()
    config: WholeConfig = None
    llvm: Llvm = False
    sha256: Sha256 = None

    def each(self, default: tuple[str, ...] = (DEFAULT_SPEC,)) -> tuple[KernelOptions, ...]:
        """Return the options of each kernel; ``default`` are the specs where none was given."""
        return tuple(
            KernelOptions(
                spec=spec,
                fragments=self.fragments,
                patches=self.patches,
                config=self.config,
                llvm=self.llvm,
                sha256=self.sha256,
            )
            for spec in self.specs or default
        )


class AccelAsked(StrEnum):
    """What --accel takes."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


Accel = Annotated[
    AccelAsked, typer.Option("--accel", help="How QEMU runs guests; auto takes KVM if it works.")
]
Smp = Annotated[int, typer.Option("--smp", min=1, max=64, metavar="N", help="CPUs of a guest.")]
Guests = Annotated[
    int | None,
    typer.Option(
        "--guests", min=1, metavar="N", help="Guests at a time; default: what the host can take."
    ),
]


@dataclass(frozen=True, kw_only=True)
class ResultFiles:
    """The files that a command writes its results to."""

    json: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the results as JSON; - writes them alone to standard output.",
        ),
    ] = None
    junit: Annotated[
        str | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML.")
    ] = None
    ktap: Annotated[
        str | None, typer.Option("--ktap", metavar="FILE", help="Write the results as KTAP.")
    ] = None
