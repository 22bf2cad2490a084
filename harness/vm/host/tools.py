# SPDX-License-Identifier: GPL-2.0-only
"""What the harness needs from the host, found by looking, and which package has it.

This is the only list of it: `make` installs from it, `klp-harness doctor` reports from it. It runs
before any dependency is installed, so it and what it imports use the standard library alone.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.vm.host.lookup import header, program, python_venv, static_library, static_program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Family(StrEnum):
    """Distributions that share package names and an installer."""

    DEBIAN = "debian"
    FEDORA = "fedora"
    SUSE = "suse"
    ARCH = "arch"
    ALPINE = "alpine"


INSTALL_COMMAND: Mapping[Family, str] = {
    Family.DEBIAN: "apt-get install",
    Family.FEDORA: "dnf install",
    Family.SUSE: "zypper install",
    Family.ARCH: "pacman -S",
    Family.ALPINE: "apk add",
}

_FAMILY_OF_ID: Mapping[str, Family] = {
    "debian": Family.DEBIAN,
    "ubuntu": Family.DEBIAN,
    "fedora": Family.FEDORA,
    "rhel": Family.FEDORA,
    "centos": Family.FEDORA,
    "suse": Family.SUSE,
    "opensuse": Family.SUSE,
    "arch": Family.ARCH,
    "alpine": Family.ALPINE,
}


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The host's distribution, as /etc/os-release tells; ``family`` is None when unknown."""

    name: str
    family: Family | None


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One thing that the host must have.

    ``probe`` returns where it was found, or None. ``only_on`` limits it to the distributions where
    it is asked for at all. An optional tool is reported and never insisted on.
    """

    name: str
    purpose: str
    packages: Mapping[Family, str]
    probe: Callable[[], str | None] = field(repr=False, compare=False)
    optional: bool = False
    only_on: frozenset[Family] | None = None

    def applies_to(self, distribution: Distribution) -> bool:
        """Return whether this distribution is asked for the tool."""
        return self.only_on is None or distribution.family in self.only_on


@dataclass(frozen=True, kw_only=True)
class ToolState:
    """A tool and where it was found; ``found`` is None when it is missing."""

    tool: Tool
    found: str | None


def read_distribution() -> Distribution:
    """Return this host's distribution; one without an os-release file is unknown."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return distribution_from(release)


def distribution_from(release: Mapping[str, str]) -> Distribution:
    """Return the distribution that os-release(5) fields describe: by ID first, then by ID_LIKE."""
    identifiers = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    # "opensuse-leap" and "opensuse-tumbleweed" are IDs; their family is the first word.
    candidates = [name for id_ in identifiers for name in (id_, id_.partition("-")[0])]
    family = next((_FAMILY_OF_ID[name] for name in candidates if name in _FAMILY_OF_ID), None)
    return Distribution(name=release.get("PRETTY_NAME", "this system"), family=family)


def _everywhere(name: str, **others: str) -> Mapping[Family, str]:
    return {family: others.get(family.value, name) for family in Family}


TOOLS: tuple[Tool, ...] = (
    Tool(
        name="qemu-system-x86_64",
        purpose="runs the guests",
        packages=_everywhere(
            "qemu-system-x86",
            fedora="qemu-system-x86-core",
            suse="qemu-x86",
            alpine="qemu-system-x86_64",
        ),
        probe=program("qemu-system-x86_64"),
    ),
    Tool(
        name="busybox (static)",
        purpose="the guest's shell and commands",
        packages=_everywhere("busybox-static", fedora="busybox", arch="busybox"),
        probe=static_program("busybox"),
    ),
    Tool(
        name="dropbear",
        purpose="the guest's SSH server",
        packages=_everywhere("dropbear", debian="dropbear-bin"),
        probe=program("dropbear"),
    ),
    Tool(
        name="dropbearkey",
        purpose="makes the guest's host key",
        packages=_everywhere("dropbear", debian="dropbear-bin"),
        probe=program("dropbearkey"),
    ),
    Tool(
        name="bash",
        purpose="the guest's bash, which the kernel's own selftests need",
        packages=_everywhere("bash"),
        probe=program("bash"),
    ),
    Tool(
        name="modprobe",
        purpose="loads modules with their dependencies in the guest",
        packages=_everywhere("kmod"),
        probe=program("modprobe"),
    ),
    Tool(
        name="depmod",
        purpose="lists which module depends on which",
        packages=_everywhere("kmod"),
        probe=program("depmod"),
    ),
    Tool(
        name="setpriv",
        purpose="has every child of the harness die with it",
        packages=_everywhere("util-linux", alpine="setpriv"),
        probe=program("setpriv"),
    ),
    Tool(
        name="sysctl",
        purpose="is used in the guest by the kernel's own selftests",
        packages=_everywhere("procps", fedora="procps-ng", arch="procps-ng"),
        probe=program("sysctl"),
    ),
    Tool(
        name="gcc",
        purpose="compiles kernels, modules and guest programs",
        packages=_everywhere("gcc"),
        probe=program("gcc"),
    ),
    Tool(
        name="static libc",
        purpose="links guest programs without libraries",
        packages=_everywhere(
            "glibc",
            debian="libc6-dev",
            fedora="glibc-static",
            suse="glibc-devel-static",
            alpine="musl-dev",
        ),
        probe=static_library("libc.a"),
    ),
    Tool(
        name="make",
        purpose="builds kernels and modules",
        packages=_everywhere("make"),
        probe=program("make"),
    ),
    Tool(
        name="ld",
        purpose="links kernels and modules",
        packages=_everywhere("binutils"),
        probe=program("ld"),
    ),
    Tool(
        name="flex",
        purpose="builds the kernel's Kconfig",
        packages=_everywhere("flex"),
        probe=program("flex"),
    ),
    Tool(
        name="bison",
        purpose="builds the kernel's Kconfig",
        packages=_everywhere("bison"),
        probe=program("bison"),
    ),
    Tool(
        name="bc",
        purpose="makes the kernel's timeconst.h",
        packages=_everywhere("bc"),
        probe=program("bc"),
    ),
    Tool(
        name="perl",
        purpose="runs the kernel's scripts, checkpatch.pl among them",
        packages=_everywhere("perl"),
        probe=program("perl"),
    ),
    Tool(
        name="cpio",
        purpose="packs a kernel's headers and initramfs",
        packages=_everywhere("cpio"),
        probe=program("cpio"),
    ),
    Tool(
        name="tar",
        purpose="unpacks kernel sources",
        packages=_everywhere("tar"),
        probe=program("tar"),
    ),
    Tool(
        name="xz",
        purpose="unpacks kernel sources",
        packages=_everywhere("xz", debian="xz-utils"),
        probe=program("xz"),
    ),
    Tool(
        name="patch",
        purpose="applies patches to kernel sources",
        packages=_everywhere("patch"),
        probe=program("patch"),
    ),
    Tool(
        name="gelf.h",
        purpose="the kernel's objtool reads ELF files with libelf",
        packages=_everywhere(
            "libelf-devel",
            debian="libelf-dev",
            fedora="elfutils-libelf-devel",
            arch="libelf",
            alpine="elfutils-dev",
        ),
        probe=header("gelf.h"),
    ),
    Tool(
        name="openssl/ssl.h",
        purpose="the kernel's certificate and module signing tools",
        packages=_everywhere(
            "openssl-devel",
            debian="libssl-dev",
            suse="libopenssl-devel",
            arch="openssl",
            alpine="openssl-dev",
        ),
        probe=header("openssl/ssl.h"),
    ),
    Tool(
        name="python3 venv",
        purpose="makes the virtual environment",
        packages=_everywhere("python3", debian="python3-venv", arch="python"),
        probe=python_venv,
    ),
    Tool(
        name="apt-get",
        purpose="fetches kernel sources from the distribution's archive",
        packages={Family.DEBIAN: "apt"},
        probe=program("apt-get"),
        only_on=frozenset({Family.DEBIAN}),
    ),
    Tool(
        name="dpkg-deb",
        purpose="unpacks kernel source packages",
        packages={Family.DEBIAN: "dpkg"},
        probe=program("dpkg-deb"),
        only_on=frozenset({Family.DEBIAN}),
    ),
    Tool(
        name="chromium",
        purpose="opens the HTML pages in a test of the project",
        packages=_everywhere("chromium"),
        probe=program("chromium"),
        optional=True,
    ),
    Tool(
        name="ccache",
        purpose="makes building the same kernel files again quicker",
        packages=_everywhere("ccache"),
        probe=program("ccache"),
        optional=True,
    ),
)


def examine_tools(distribution: Distribution) -> tuple[ToolState, ...]:
    """Look for every tool that this distribution is asked for; a matter of 0.2 s."""
    return tuple(
        ToolState(tool=tool, found=tool.probe()) for tool in TOOLS if tool.applies_to(distribution)
    )


def missing_tools(distribution: Distribution) -> tuple[Tool, ...]:
    """Return the required tools that this host lacks."""
    return tuple(
        state.tool
        for state in examine_tools(distribution)
        if state.found is None and not state.tool.optional
    )


def packages_for(tools: tuple[Tool, ...], family: Family) -> tuple[str, ...]:
    """Return the packages that have these tools, each once, in the order of the list."""
    return tuple(dict.fromkeys(tool.packages[family] for tool in tools if family in tool.packages))


def install_command(tools: tuple[Tool, ...], distribution: Distribution) -> str | None:
    """Return what root types to install these tools, or None on an unknown distribution."""
    if distribution.family is None:
        return None
    packages = packages_for(tools, distribution.family)
    return " ".join([INSTALL_COMMAND[distribution.family], *packages]) if packages else None


def explain_missing(tools: tuple[Tool, ...], distribution: Distribution) -> tuple[str, str]:
    """Return one sentence that names what is missing and why, and one that tells how to get it."""
    named = ", ".join(f"{tool.name} ({tool.purpose})" for tool in tools)
    command = install_command(tools, distribution)
    if command is not None:
        return f"{distribution.name} lacks {named}", f"as root: {command}"
    per_family = "; ".join(
        f"{family.value}: {INSTALL_COMMAND[family]} {' '.join(packages_for(tools, family))}"
        for family in Family
        if packages_for(tools, family)
    )
    return f"{distribution.name} lacks {named}", f"install the matching packages ({per_family})"
