# SPDX-License-Identifier: GPL-2.0-only
"""Damaged packages of kernels and images of disks, which other programs read for the harness.

Each costs a few processes, so they are few: KLP_FUZZ=soak takes more.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import KlpError
from harness.vm.guest.root_spec import parse_root
from harness.vm.host.process import run
from harness.vm.kernel.finished_spec import Packaging
from harness.vm.kernel.layout import find_layout
from harness.vm.kernel.unpack import read_package, unpack
from tests.fuzz.mutate import mutated
from tests.unit.finished_kernels import debian_root, write_files

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 2_000 if os.environ.get("KLP_FUZZ") == "soak" else 25
CONTROL = (
    "Package: x\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n"
)
SPEC = """\
Name: x
Version: 1
Release: 1
Summary: x
License: GPL
%global __os_install_post %{{nil}}
%description
x
%install
cp -a {root}/. %{{buildroot}}/
%files
/
"""


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip where a tool is missing; in CI that is a failure."""
    missing = [name for name in names if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
    return pytest.mark.skipif(
        bool(missing) and not os.environ.get("CI"), reason=f"there is no {', '.join(missing)}"
    )


def read_kernel(path: Path, packaging: Packaging, folder: Path) -> None:
    """Read a package as `--kernel deb:FILE` does, up to its layout."""
    soon = Deadline.after(60)
    read_package(path, packaging, soon)
    unpack([path], packaging, folder / "root", soon)
    find_layout(folder / "root", "this")


@needs("dpkg-deb")
def test_deb(tmp_path: Path) -> None:
    """Whatever is damaged: a sentence, or a kernel; nothing is left beside the folder."""
    root = debian_root(tmp_path / "system", "6.6.6-test")
    write_files(root, {"DEBIAN/control": CONTROL})
    deb = tmp_path / "x.deb"
    run(["dpkg-deb", "--build", "-Znone", root, deb], deadline=Deadline.after(60))
    read_kernel(deb, Packaging.DEB, tmp_path / "whole")
    damage(deb, Packaging.DEB, tmp_path)


@needs("rpmbuild", "rpm2archive")
def test_rpm(tmp_path: Path) -> None:
    """The same of an rpm."""
    root = debian_root(tmp_path / "system", "6.6.6-test")
    spec = write_files(tmp_path / "top", {"x.spec": SPEC.format(root=root)}) / "x.spec"
    how = [f"--define=_topdir {tmp_path}/top", "--define=_build_id_links none", "--nodeps"]
    run(["rpmbuild", "-bb", "--target=x86_64-linux", *how, spec], deadline=Deadline.after(120))
    rpm = next((tmp_path / "top").rglob("*.rpm"))
    read_kernel(rpm, Packaging.RPM, tmp_path / "whole")
    damage(rpm, Packaging.RPM, tmp_path)


def damage(package: Path, packaging: Packaging, folder: Path) -> None:
    good, chance = package.read_bytes(), random.Random(1)
    for number in range(COUNT):
        place = folder / "damaged"
        place.mkdir()
        path = folder / f"damaged.{packaging}"
        path.write_bytes(mutated(chance, [good]))
        with contextlib.suppress(KlpError):
            read_kernel(path, packaging, place)
        assert {each.name for each in place.iterdir()} <= {"root"}, number
        shutil.rmtree(place)


@needs("mkfs.ext4", "mksquashfs", "unsquashfs", "qemu-img")
@pytest.mark.parametrize("kind", ["ext4", "squashfs", "qcow2"])
def test_image(tmp_path: Path, kind: str) -> None:
    """An image is taken or refused in a sentence, and read in bounded time."""
    root = write_files(tmp_path / "root", {"bin/sh": "x", "sbin/init": "x"})
    raw, soon = tmp_path / "image", Deadline.after(60)
    if kind == "squashfs":
        run(["mksquashfs", root, raw, "-quiet", "-no-progress"], deadline=soon)
    else:
        raw.write_bytes(bytes(1 << 20))
        run(["mkfs.ext4", "-q", "-F", "-d", root, raw], deadline=soon)
    if kind == "qcow2":
        run(["qemu-img", "convert", "-O", "qcow2", raw, tmp_path / "q"], deadline=soon)
        (tmp_path / "q").rename(raw)
    parse_root(str(raw), init=True)
    good, chance = raw.read_bytes(), random.Random(1)
    for _ in range(COUNT):
        raw.write_bytes(mutated(chance, [good]))
        with contextlib.suppress(KlpError):
            parse_root(str(raw), init=True)
