# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in files of packages: unpacked aside, or refused by what is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import KernelUnfit, MissingTool, UsageError
from harness.vm.host.process import run
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.finished_spec import Packaging
from harness.vm.kernel.unpack import read_package, unpack
from tests.unit.finished_kernels import debian_root, image_of, write_files

if TYPE_CHECKING:
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

RELEASE = "6.6.6-test"


@pytest.fixture
def obtain(store: Store, soon: Deadline, recorder: Progress) -> Callable[[str], Kernel]:
    """Obtain the kernel of a spec."""

    def call(spec: str) -> Kernel:
        request = KernelRequest(spec=spec)
        return obtain_kernel(request, store=store, deadline=soon, progress=recorder)

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return debian_root(tmp_path / "system", RELEASE)


def build_deb(root: Path, deb: Path, *, architecture: str = "amd64") -> Path:
    write_files(
        root,
        {
            "DEBIAN/control": f"Package: linux-image-{RELEASE}\nVersion: 1-2\n"
            f"Architecture: {architecture}\nMaintainer: x <x@example.org>\nDescription: x\n"
        },
    )
    run(["dpkg-deb", "--build", root, deb], deadline=Deadline.after(30))
    return deb


def test_debian_files(root: Path, tmp_path: Path, obtain: Callable[[str], Kernel]) -> None:
    """Image and headers in two files, in either order, are one kernel."""
    headers = tmp_path / "headers"
    for name in ("usr", "lib"):
        shutil.move(root / name, headers / name)
    (root / f"lib/modules/{RELEASE}").mkdir(parents=True)
    one, two = build_deb(root, tmp_path / "i.deb"), build_deb(headers, tmp_path / "h.deb")
    kernel = obtain(f"deb:{one},{two}")
    assert kernel.version == RELEASE
    assert kernel.source == f"linux-image-{RELEASE} 1-2 and linux-image-{RELEASE} 1-2"
    assert obtain(f"deb:{two},{one}").digest == kernel.digest
    with pytest.raises(KernelUnfit, match="without the headers"):
        obtain(f"deb:{one}")
    with pytest.raises(UsageError, match="has no kernel image"):
        obtain(f"deb:{two}")


def test_two_kernels_at_once(root: Path, tmp_path: Path, obtain: Callable[[str], Kernel]) -> None:
    """Which of them is not guessed."""
    write_files(root, {"boot/vmlinuz-7": image_of("7.0")})
    with pytest.raises(UsageError, match=f"has 2 kernels: {RELEASE}, 7.0"):
        obtain(f"deb:{build_deb(root, tmp_path / 'i.deb')}")


def test_a_package_of_another_architecture(root: Path, tmp_path: Path, soon: Deadline) -> None:
    """It is refused by what it says of itself, before it is unpacked."""
    deb = build_deb(root, tmp_path / "i.deb", architecture="arm64")
    with pytest.raises(UsageError, match=r"i\.deb is for arm64, and the guests are x86_64"):
        read_package(deb, Packaging.DEB, soon)


def read_and_unpack(path: Path, packaging: Packaging, to: Path, deadline: Deadline) -> None:
    read_package(path, packaging, deadline)
    unpack([path], packaging, to, deadline)


@pytest.mark.parametrize("packaging", list(Packaging))
@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_a_package_that_is_damaged(
    packaging: Packaging, damage: str, root: Path, tmp_path: Path, soon: Deadline
) -> None:
    """No traceback, and nothing half unpacked is used."""
    good = build_deb(root, tmp_path / "i.deb").read_bytes()
    path = tmp_path / f"x.{packaging}"
    path.write_bytes(
        {"empty": b"", "text": b"hello\n" * 900, "cut": good[: len(good) // 2]}[damage]
    )
    if packaging is Packaging.RPM and not shutil.which("rpm"):
        with pytest.raises(MissingTool, match=r"rpm is not installed: without it no \.rpm"):
            read_package(path, packaging, soon)
        return
    with pytest.raises(UsageError, match=rf"x\.{packaging} is no \.{packaging} package, or it is"):
        read_and_unpack(path, packaging, tmp_path / "out", soon)


def test_a_package_that_says_it_is_huge(
    root: Path, tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is asked for before it is unpacked."""
    monkeypatch.setattr("harness.vm.kernel.unpack._MOST_BYTES", 1000)
    deb = build_deb(root, tmp_path / "i.deb")
    with pytest.raises(UsageError, match="which is no size of a kernel's package"):
        unpack([deb], Packaging.DEB, tmp_path / "out", soon)
    assert not list((tmp_path / "out").rglob("vmlinuz*"))
