# SPDX-License-Identifier: GPL-2.0-only
"""The list of what the host must have, and what is said when something is missing."""

from __future__ import annotations

import dataclasses
import struct
import sys
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import MissingTool
from harness.vm.host import lookup, tools
from harness.vm.host.lookup import is_static
from harness.vm.host.process import run
from harness.vm.host.tools import (
    INSTALL_COMMAND,
    TOOLS,
    Distribution,
    Family,
    Tool,
    distribution_from,
    examine_tools,
    explain_missing,
    install_command,
    missing_tools,
    packages_for,
)

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = Distribution(name="Debian 12", family=Family.DEBIAN)
FEDORA = Distribution(name="Fedora 40", family=Family.FEDORA)
UNKNOWN = Distribution(name="Homegrown 1", family=None)
BY_NAME = {tool.name: tool for tool in TOOLS}


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ({"ID": "debian"}, Family.DEBIAN),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, Family.DEBIAN),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, Family.DEBIAN),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, Family.FEDORA),
        ({"ID": "opensuse-tumbleweed"}, Family.SUSE),
        ({"ID": "sles", "ID_LIKE": "suse"}, Family.SUSE),
        ({"ID": "arch"}, Family.ARCH),
        ({"ID": "alpine"}, Family.ALPINE),
        ({"ID": "homegrown"}, None),
        ({}, None),
    ],
)
def test_family_from_os_release(release: dict[str, str], family: Family | None) -> None:
    """Derived distributions are recognised by what they are like."""
    assert distribution_from(release).family is family


def test_every_tool_has_a_package_wherever_it_is_asked_for() -> None:
    """No hint ever lacks the package's name."""
    for tool in TOOLS:
        for family in tool.only_on or Family:
            assert tool.packages.get(family), (tool.name, family)


def test_names_are_unique() -> None:
    """A report names each tool once."""
    assert len(BY_NAME) == len(TOOLS)


def test_every_family_can_install() -> None:
    """Each family of distributions has its command to install."""
    assert set(INSTALL_COMMAND) == set(Family)


def test_packages_come_once_each() -> None:
    """Two tools of one package name it once."""
    both = (BY_NAME["dropbear"], BY_NAME["dropbearkey"])
    assert packages_for(both, Family.DEBIAN) == ("dropbear-bin",)


def test_install_command_is_this_distributions() -> None:
    """The command can be pasted on this distribution; on an unknown one there is none."""
    wanted = (BY_NAME["gelf.h"], BY_NAME["xz"])
    assert install_command(wanted, DEBIAN) == "apt-get install libelf-dev xz-utils"
    assert install_command(wanted, FEDORA) == "dnf install elfutils-libelf-devel xz"
    assert install_command(wanted, UNKNOWN) is None


def test_missing_tool_is_named_with_purpose_and_remedy() -> None:
    """A user learns what is missing, why it is needed and how to get it."""
    sentence, hint = explain_missing((BY_NAME["bc"],), DEBIAN)
    assert sentence == "Debian 12 lacks bc (makes the kernel's timeconst.h)"
    assert hint == "as root: apt-get install bc"


def test_unknown_distribution_gets_every_familys_packages() -> None:
    """On an unknown distribution the nearest family's names help."""
    _, hint = explain_missing((BY_NAME["gelf.h"],), UNKNOWN)
    for family in Family:
        assert f"{family.value}: {INSTALL_COMMAND[family]}" in hint


def test_missing_leaves_out_what_is_optional_or_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ccache is never insisted on, and apt only where it is at home."""
    nothing = tuple(dataclasses.replace(tool, probe=lambda: None) for tool in TOOLS)
    monkeypatch.setattr(tools, "TOOLS", nothing)
    on_debian = {tool.name for tool in missing_tools(DEBIAN)}
    on_fedora = {tool.name for tool in missing_tools(FEDORA)}
    assert "ccache" not in on_debian
    assert on_debian - on_fedora == {"apt-get", "dpkg-deb"}
    assert {state.tool.name for state in examine_tools(DEBIAN)} == set(BY_NAME)


def test_found_tool_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was not found is installed."""
    there = Tool(name="t", purpose="p", packages={}, probe=lambda: "/usr/bin/t")
    gone = dataclasses.replace(there, name="g", probe=lambda: None)
    monkeypatch.setattr(tools, "TOOLS", (there, gone))
    assert missing_tools(DEBIAN) == (gone,)


def test_header_is_looked_for_as_the_compiler_does() -> None:
    """A header is found wherever the compiler is configured to look."""
    found = lookup.header("stdio.h")()
    assert found is not None
    assert found.endswith("/stdio.h")
    assert lookup.header("no/such/header.h")() is None


def test_static_library_is_looked_for_as_the_linker_does() -> None:
    """A static library is found wherever the linker is configured to look."""
    assert lookup.static_library("libno-such.a")() is None
    found = lookup.static_library("libgcc.a")()
    assert found is not None
    assert found.endswith("/libgcc.a")


def test_without_compiler_nothing_of_its_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host without a compiler is reported, not an error."""

    def no_gcc(*arguments: object, **options: object) -> None:
        raise MissingTool("no gcc")

    monkeypatch.setattr(lookup, "run", no_gcc)
    assert lookup.header("stdio.h")() is None
    assert lookup.static_library("libgcc.a")() is None


def elf(*types: int) -> bytes:
    header = bytearray(64)
    header[:5] = b"\x7fELF\x02"
    struct.pack_into("<Q", header, 0x20, 64)
    struct.pack_into("<HH", header, 0x36, 56, len(types))
    return bytes(header) + b"".join(struct.pack("<I", type_).ljust(56, b"\0") for type_ in types)


@pytest.mark.parametrize(
    ("content", "static"),
    [
        (elf(1, 1), True),
        (elf(6, 3, 1), False),
        (elf(), False),
        (elf(1, 1)[:100], False),
        (b"#!/bin/sh\n", False),
        (b"", False),
    ],
)
def test_static_program_has_no_interpreter(content: bytes, static: bool, tmp_path: Path) -> None:
    """Debian's "busybox" package has a dynamic busybox, which does not run in our guest."""
    program = tmp_path / "program"
    program.write_bytes(content)
    assert is_static(program) is static


def test_no_file_is_not_static(tmp_path: Path) -> None:
    """A program that is not there is not static."""
    assert not is_static(tmp_path / "none")


@pytest.mark.parametrize("module", ["harness.vm.host.tools", "harness.vm.host.bootstrap"])
def test_setting_up_needs_the_standard_library_alone(module: str) -> None:
    """make runs it before anything is installed: -S leaves the site-packages out."""
    done = run(
        [sys.executable, "-S", "-E", "-c", f"import {module}"],
        deadline=Deadline.after(60),
        cwd=ROOT,
    )
    assert done.stderr == ""
