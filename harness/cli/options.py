# SPDX-License-Identifier: GPL-2.0-only
"""Options that several commands share, so that they are spelled and explained in one place."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.kernel.build import DEFAULT_SPEC as DEFAULT_KERNEL

__all__ = [
    "DEFAULT_KERNEL",
    "AccelAsked",
    "AccelOption",
    "JsonFile",
    "JunitFile",
    "KernelConfig",
    "KernelPatches",
    "KernelSpec",
    "KernelSpecs",
    "KtapFile",
    "Sha256",
    "Smp",
]


class AccelAsked(StrEnum):
    """What --accel takes."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


_SPEC_HELP = (
    "Kernel to use: a version that the distribution's mirror has (6.1, 6.12, newest), a source "
    "tree, a tarball or URL, build:DIR, deb:PACKAGE."
)

KernelSpec = Annotated[str, typer.Option("--kernel", metavar="SPEC", help=_SPEC_HELP)]
KernelSpecs = Annotated[
    list[str] | None,
    typer.Option("--kernel", metavar="SPEC", help=_SPEC_HELP + " Repeatable; default 6.1."),
]
KernelConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--kernel-config",
        metavar="FRAGMENT",
        help="Config fragment on top of base and livepatch: a name in kernel-configs or a file. "
        "Repeatable.",
    ),
]
KernelPatches = Annotated[
    list[Path] | None,
    typer.Option(
        "--patch",
        metavar="FILE",
        help="Patch to apply to the kernel's sources, without fuzz. Repeatable.",
    ),
]
Sha256 = Annotated[
    str | None,
    typer.Option("--sha256", metavar="HEX", help="Digest that a tarball or URL must have."),
]
AccelOption = Annotated[
    AccelAsked, typer.Option("--accel", help="How QEMU runs guests; auto takes KVM if it works.")
]
Smp = Annotated[int, typer.Option("--smp", min=1, max=64, metavar="N", help="CPUs of a guest.")]
JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the results as JSON; - writes them alone to standard output.",
    ),
]
JunitFile = Annotated[
    str | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML.")
]
KtapFile = Annotated[
    str | None, typer.Option("--ktap", metavar="FILE", help="Write the results as KTAP.")
]
