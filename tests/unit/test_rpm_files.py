# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in .rpm files, which rpmbuild makes here as it makes those of distributions."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.vm.host.process import run
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.finished_spec import Packaging
from harness.vm.kernel.unpack import read_package, unpack
from tests.unit.finished_kernels import CONFIG, host_programs, image_of, system_map, write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

RELEASE = "6.6.6-200.fc40.x86_64"
NAMES = ("kernel-core", "kernel-devel")
SPEC = """\
Name: {name}
Version: 6.6.6
Release: 200.fc40
Summary: x
License: GPL
AutoReqProv: no
%global __os_install_post %{{nil}}
%description
x
%install
cp -a {root}/. %{{buildroot}}/
%files
/
"""


@pytest.fixture
def build_rpm(tmp_path: Path) -> Callable[..., Path]:
    """Build a package of the files below a folder."""
    if shutil.which("rpmbuild") is None:
        words = "no rpmbuild here to make a package with (as root: apt-get install rpm)"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)

    def build(name: str, root: Path, *, target: str = "x86_64") -> Path:
        top = tmp_path / f"rpmbuild-{name}"
        spec = write_files(top, {"it.spec": SPEC.format(name=name, root=root)}) / "it.spec"
        options = [f"--define=_topdir {top}", "--define=_build_id_links none"]
        how = ["-bb", "--nodeps", f"--target={target}-linux", *options]
        run(["rpmbuild", *how, str(spec)], deadline=Deadline.after(120))
        return next(top.rglob("*.rpm"))

    return build


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """Return the roots of a kernel's image with its modules, and of its headers."""
    modules, headers = f"lib/modules/{RELEASE}", f"usr/src/kernels/{RELEASE}"
    core = write_files(
        tmp_path / "core",
        {
            f"{modules}/vmlinuz": image_of(RELEASE),
            f"{modules}/config": CONFIG,
            f"{modules}/System.map": system_map("cmdline_proc_show"),
        },
    )
    (core / modules / "build").symlink_to(f"/{headers}")
    devel = write_files(
        tmp_path / "devel",
        {
            f"{headers}/Makefile": "all:\n",
            f"{headers}/Module.symvers": "",
            **host_programs(f"{headers}/"),
        },
    )
    return core, devel


def test_a_kernel_in_rpms(
    build_rpm: Callable[..., Path],
    parts: tuple[Path, Path],
    store: Store,
    soon: Deadline,
    recorder: Progress,
) -> None:
    """Fedora's packages: image, configuration, symbols and headers are found in their places."""
    core, devel = (build_rpm(n, p) for n, p in zip(NAMES, parts, strict=True))
    request = KernelRequest(spec=f"rpm:{devel},{core}")
    kernel = obtain_kernel(request, store=store, deadline=soon, progress=recorder)
    assert kernel.version == RELEASE
    assert kernel.source == "kernel-core 6.6.6-200.fc40 and kernel-devel 6.6.6-200.fc40"
    assert kernel.symbols is not None
    assert (kernel.build_dir / "Module.symvers").is_file()
    lone = KernelRequest(spec=f"rpm:{devel}")
    with pytest.raises(UsageError, match=r"kernel-devel .* has no kernel image"):
        obtain_kernel(lone, store=store, deadline=soon, progress=recorder)


def test_an_rpm_that_is_damaged_or_of_another_machine(
    build_rpm: Callable[..., Path], parts: tuple[Path, Path], tmp_path: Path, soon: Deadline
) -> None:
    """A changed byte is found by the digests that the package carries; nothing is unpacked."""
    good = build_rpm("kernel-core", parts[0])
    assert read_package(good, Packaging.RPM, soon).description == "kernel-core 6.6.6-200.fc40"
    content = bytearray(good.read_bytes())
    content[-20] ^= 0xFF
    bad = tmp_path / "bad.rpm"
    bad.write_bytes(bytes(content))
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"bad\.rpm is no \.rpm package, or it is damaged"):
        unpack([bad], Packaging.RPM, out, soon)
    assert not list(out.rglob("vmlinuz*"))
    other = build_rpm("kernel-other", parts[0], target="aarch64")
    with pytest.raises(UsageError, match="is for aarch64, and the guests are x86_64"):
        read_package(other, Packaging.RPM, soon)
