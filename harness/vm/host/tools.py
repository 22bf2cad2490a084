# SPDX-License-Identifier: GPL-2.0-only
"""What the harness needs from the host, how to find it, and which package has it.

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
    """The host's distribution, from /etc/os-release; ``family`` is None when unknown."""

    name: str
    family: Family | None


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One thing that the host must have.

    ``probe`` returns where it was found, or None. ``only_on`` has the distributions that need it at
    all. An optional tool is reported, and nothing fails without it.
    """

    name: str
    purpose: str
    packages: Mapping[Family, str]
    probe: Callable[[], str | None] = field(repr=False, compare=False)
    optional: bool = False
    only_on: frozenset[Family] | None = None

    def applies_to(self, distribution: Distribution) -> bool:
        """Return whether the tool is needed on this distribution."""
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


def _tool(
    name: str,
    purpose: str,
    probe: Callable[[], str | None],
    package: str,
    *,
    optional: bool = False,
    **others: str,
) -> Tool:
    """Return a tool that every distribution needs; ``others`` name its package by family."""
    packages = {family: others.get(family.value, package) for family in Family}
    return Tool(name=name, purpose=purpose, packages=packages, probe=probe, optional=optional)


def _program(
    name: str, purpose: str, package: str | None = None, *, optional: bool = False, **others: str
) -> Tool:
    """Return a tool that is a program; without ``package`` its package has the same name."""
    return _tool(name, purpose, program(name), package or name, optional=optional, **others)


def _debian_program(name: str, purpose: str, package: str) -> Tool:
    return Tool(
        name=name,
        purpose=purpose,
        packages={Family.DEBIAN: package},
        probe=program(name),
        only_on=frozenset({Family.DEBIAN}),
    )


TOOLS: tuple[Tool, ...] = (
    _program(
        "qemu-system-x86_64",
        "runs the guests",
        "qemu-system-x86",
        fedora="qemu-system-x86-core",
        suse="qemu-x86",
        alpine="qemu-system-x86_64",
    ),
    _tool(
        "busybox (static)",
        "the guest's shell and commands",
        static_program("busybox"),
        "busybox-static",
        fedora="busybox",
        arch="busybox",
    ),
    _program("dropbear", "the guest's SSH server", debian="dropbear-bin"),
    _program("dropbearkey", "makes the guest's host key", "dropbear", debian="dropbear-bin"),
    _program("bash", "the guest's bash, which the kernel's own selftests need"),
    _program("modprobe", "loads modules with their dependencies in the guest", "kmod"),
    _program("depmod", "lists which module depends on which", "kmod"),
    _program("setpriv", "kills every child when the harness ends", "util-linux", alpine="setpriv"),
    _program(
        "sysctl",
        "is used in the guest by the kernel's own selftests",
        "procps",
        fedora="procps-ng",
        arch="procps-ng",
    ),
    _program("gcc", "compiles kernels, modules and guest programs"),
    _tool(
        "static libc",
        "links guest programs without libraries",
        static_library("libc.a"),
        "glibc",
        debian="libc6-dev",
        fedora="glibc-static",
        suse="glibc-devel-static",
        alpine="musl-dev",
    ),
    _program("make", "builds kernels and modules"),
    _program("ld", "links kernels and modules", "binutils"),
    _program("flex", "builds the kernel's Kconfig"),
    _program("bison", "builds the kernel's Kconfig"),
    _program("bc", "makes the kernel's timeconst.h"),
    _program("perl", "runs the kernel's scripts, checkpatch.pl among them"),
    _program("cpio", "packs a kernel's headers and initramfs"),
    _program("tar", "unpacks kernel sources"),
    _program("xz", "unpacks kernel sources", debian="xz-utils"),
    _program("patch", "applies patches to kernel sources"),
    _tool(
        "gelf.h",
        "the kernel's objtool reads ELF files with libelf",
        header("gelf.h"),
        "libelf-devel",
        debian="libelf-dev",
        fedora="elfutils-libelf-devel",
        arch="libelf",
        alpine="elfutils-dev",
    ),
    _tool(
        "openssl/ssl.h",
        "the kernel's certificate and module signing tools",
        header("openssl/ssl.h"),
        "openssl-devel",
        debian="libssl-dev",
        suse="libopenssl-devel",
        arch="openssl",
        alpine="openssl-dev",
    ),
    _tool(
        "python3 venv",
        "makes the virtual environment",
        python_venv,
        "python3",
        debian="python3-venv",
        arch="python",
    ),
    _debian_program("apt-get", "fetches kernel sources from the distribution's archive", "apt"),
    _debian_program("dpkg-deb", "unpacks kernel source packages", "dpkg"),
    _program("chromium", "opens the HTML pages in a test of the project", optional=True),
    _program("zstd", "unpacks a distribution's modules (.ko.zst)", optional=True),
    _program("rpm2archive", "unpacks kernels of .rpm packages", "rpm", optional=True),
    _program(
        "qemu-img",
        "gives guests with a root file system their disks (--rootfs)",
        "qemu-utils",
        optional=True,
        fedora="qemu-img",
        suse="qemu-tools",
        arch="qemu-img",
        alpine="qemu-img",
    ),
    _program("mmdebstrap", "makes the userland of a Debian suite (--rootfs deb:)", optional=True),
    _program("mkfs.ext4", "makes guests' root file systems", "e2fsprogs", optional=True),
    _program("unsquashfs", "looks into images of squashfs", "squashfs-tools", optional=True),
    _program("ccache", "makes building the same kernel files again quicker", optional=True),
)


def examine_tools(distribution: Distribution) -> tuple[ToolState, ...]:
    """Look for every tool that this distribution needs, which takes 0.2 s."""
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
    """Return root's command to install these tools, or None on an unknown distribution."""
    if distribution.family is None:
        return None
    packages = packages_for(tools, distribution.family)
    return " ".join([INSTALL_COMMAND[distribution.family], *packages]) if packages else None


def explain_missing(tools: tuple[Tool, ...], distribution: Distribution) -> tuple[str, str]:
    """Return a sentence that names what is missing and why it is needed, and how to install it."""
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
