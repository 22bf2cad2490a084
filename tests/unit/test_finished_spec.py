# SPDX-License-Identifier: GPL-2.0-only
"""How finished kernels are named: installed, by packages, by files of packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.vm.kernel import finished_spec
from harness.vm.kernel.finished_spec import (
    InstalledSpec,
    PackageFilesSpec,
    PackageSpec,
    Packaging,
    parse_finished,
)
from tests.unit.finished_kernels import write_files


def test_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image by its path, packages by their names, files by their ends."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, {"vmlinuz-1": "x", "a.deb": "x", "b.deb": "x", "k.rpm": "x"})
    (tmp_path / "vmlinuz-tree").mkdir()
    deb, rpm = Packaging.DEB, Packaging.RPM
    wanted = {
        "vmlinuz-1": InstalledSpec(image=tmp_path / "vmlinuz-1"),
        "./vmlinuz-1": InstalledSpec(image=tmp_path / "vmlinuz-1"),
        "vmlinuz-tree": None,
        "vmlinuz-none": None,
        "6.1": None,
        "deb:linux-image-amd64": PackageSpec(name="linux-image-amd64"),
        "deb:a,a-dbg": PackageSpec(name="a", further=("a-dbg",)),
        "rpm:kernel-default": PackageSpec(name="kernel-default", packaging=rpm),
        "deb:a.deb,./b.deb,a.deb": PackageFilesSpec(
            files=(tmp_path / "a.deb", tmp_path / "b.deb"), packaging=deb
        ),
        "rpm:k.rpm": PackageFilesSpec(files=(tmp_path / "k.rpm",), packaging=rpm),
    }
    assert {text: parse_finished(text) for text in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/boot/vmlinuz-none", "no kernel image /boot/vmlinuz-none"),
        ("deb:", "'' is no name of a package"),
        ("deb:a,,b", "'' is no name"),
        ("deb:Upper", "'Upper' is no name"),
        ("rpm:-o=x", "'-o=x' is no name"),
        ("rpm:a b", "'a b' is no name"),
        ("deb:/nowhere.deb", r"no package /nowhere\.deb"),
        ("deb:./", "no package ./: deb: takes files that end in .deb"),
        ("rpm:a.rpm,kernel", "names of packages or their files, not both: 'kernel' is no file"),
        ("rpm:" + ",".join("a" * 33), "no 33 packages"),
    ],
)
def test_what_names_no_kernel(text: str, said: str) -> None:
    """One sentence, and an example."""
    with pytest.raises(UsageError, match=said):
        parse_finished(text)


def test_installed_is_the_running_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has no image of it, which is said."""
    image = tmp_path / f"vmlinuz-{os.uname().release}"
    monkeypatch.setattr(finished_spec, "_BOOT", tmp_path)
    with pytest.raises(UsageError, match=f"no kernel image {image}") as caught:
        parse_finished("installed")
    assert "container" in (caught.value.hint or "")
    image.touch()
    assert parse_finished("installed") == InstalledSpec(image=image)
