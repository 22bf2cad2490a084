# SPDX-License-Identifier: GPL-2.0-only
"""Readers of what comes with a kernel or a run of somebody else: see targets.py."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome, HostFacts
from harness.report.history import (
    HistoryResult,
    HistoryRun,
    RecordedRun,
    from_lines,
    to_lines,
)
from harness.tools.verify.matrix.from_manifest import plan_of
from harness.tools.verify.matrix.manifest import read_manifest
from harness.vm.elf.system_map import read_system_map
from harness.vm.guest.disk_image import find_file_system
from harness.vm.guest.kept import KeptGuest
from harness.vm.kernel import rpm_archive
from harness.vm.kernel.layout import headers_release, image_release
from harness.vm.kernel.whole_config import read_whole
from tests.fuzz.reader import Target, file_with, scratch, text_of
from tests.unit.finished_kernels import image_of, system_map
from tests.unit.test_kept import GUEST

if TYPE_CHECKING:
    from collections.abc import Callable

_MANIFEST = """\
[[kernel]]
spec = "6.1"
name = "stable"
[[kernel]]
spec = "6.12"
kernel-config = ["debug"]
[defaults]
scene = ["idle"]
cycles = 3
[settings.quick]
inherits = "quicker"
within = 2.5
[settings.quicker]
thorough = false
[[patch]]
module = "klp_test_cmdline_a"
kernel = ["stable"]
[[patch]]
name = "b"
module = "klp_test_cmdline_b"
inherits = "quick"
param = { word = "x" }
"""
_WHOLE = "# Linux/x86 6.1.0 Kernel Configuration\nCONFIG_64BIT=y\n" + "".join(
    f"CONFIG_A{number}=m\n# CONFIG_B{number} is not set\n" for number in range(600)
)
_SOLVABLES = """\
<?xml version='1.0'?><stream><search-result version="0.0"><solvable-list>
<solvable status="not-installed" name="kernel-default" kind="package" edition="6.4.0-150600.23.65.1"
 arch="x86_64" repository="main"/></solvable-list></search-result></stream>
"""
_REPOQUERY = "kernel-core\t6.10.3-200.fc40\tx86_64\nkernel-devel\t6.10.3-200.fc40\tx86_64\n"


def _manifest(data: bytes) -> None:
    plan_of(read_manifest(file_with(data, "klp-verify.toml")))


def _image(data: bytes) -> None:
    image_release(file_with(data, "vmlinuz"))


def _headers(data: bytes) -> None:
    place = scratch() / "headers/include/generated"
    place.mkdir(parents=True, exist_ok=True)
    (place / "utsrelease.h").write_bytes(data)
    headers_release(scratch() / "headers")


def _disk() -> list[bytes]:
    """Return the heads of an ext4 file system, of a squashfs, and of disks that have partitions."""
    ext4 = bytearray(4096)
    struct.pack_into("<I", ext4, 1028, 1)
    struct.pack_into("<H", ext4, 1080, 0xEF53)
    gpt = bytearray(4096)
    gpt[510:512] = b"\x55\xaa"
    gpt[512:520] = b"EFI PART"
    struct.pack_into("<QII", gpt, 584, 2, 4, 128)
    gpt[1024:1040] = bytes.fromhex("af3dc60f838472478e793d69d8477de4")
    struct.pack_into("<QQ", gpt, 1056, 4, 7)
    struct.pack_into("<H", gpt, 2048 + 1080, 0xEF53)
    mbr = bytearray(4096)
    mbr[510:512], mbr[450] = b"\x55\xaa", 0x83
    struct.pack_into("<II", mbr, 454, 2, 4)
    struct.pack_into("<H", mbr, 1024 + 1080, 0xEF53)
    return [bytes(each) for each in (ext4, gpt, mbr, b"hsqs" + bytes(4092))]


def _answers(manager: str) -> Callable[[bytes], object]:
    """Return a reader of what a package manager prints."""

    def read(data: bytes) -> None:
        finished = SimpleNamespace(stdout=text_of(data), stderr="", returncode=0)
        before = rpm_archive._run
        rpm_archive._run = lambda *_, **__: finished  # type: ignore[assignment]
        try:
            made = getattr(rpm_archive, manager)("/bin/true", scratch())
            made.offered(["kernel"], None)
        finally:
            rpm_archive._run = before

    return read


def _kept_note() -> list[bytes]:
    path = scratch() / "note.json"
    GUEST.write(path)
    return [path.read_bytes()]


def _history() -> list[bytes]:
    host = HostFacts(system="Linux", kernel="6.1", cpus=2, memory_mib=4096, python="3.11.2")
    run = HistoryRun(
        id="00ff",
        at="2026-11-28T19:00:00+00:00",
        command="verify",
        outcome="passed",
        seconds=1.0,
        harness="0.2.0",
        host=host,
    )
    result = HistoryResult(id="load", outcome=CheckOutcome.PASSED, seconds=0.5)
    return [to_lines(RecordedRun(run=run, results=(result,))).encode()]


KERNEL_TARGETS = (
    Target(
        name="system-map",
        read=lambda data: read_system_map(file_with(data, "System.map")),
        samples=lambda: [system_map("schedule", "cmdline_proc_show").encode()],
    ),
    Target(
        name="verify-manifest",
        read=_manifest,
        samples=lambda: [_MANIFEST.encode()],
    ),
    Target(name="image", read=_image, samples=lambda: [image_of("6.6.6-test")]),
    Target(
        name="headers",
        read=_headers,
        samples=lambda: [b'#define UTS_RELEASE "6.6.6-test"\n'],
    ),
    Target(
        name="whole-config",
        read=lambda data: read_whole(file_with(data, "whole.config")),
        samples=lambda: [_WHOLE.encode()],
    ),
    Target(name="disk", read=lambda data: find_file_system(file_with(data, "disk")), samples=_disk),
    Target(name="zypper", read=_answers("_Zypper"), samples=lambda: [_SOLVABLES.encode()]),
    Target(name="dnf", read=_answers("_Dnf"), samples=lambda: [_REPOQUERY.encode()]),
    Target(
        name="kept-guest",
        read=lambda data: KeptGuest.read(file_with(data, "kept.json")),
        samples=_kept_note,
        raises=(ValueError, KeyError, TypeError),
    ),
    Target(name="runs", read=lambda data: from_lines(text_of(data), "x"), samples=_history),
)
