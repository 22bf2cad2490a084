# SPDX-License-Identifier: GPL-2.0-only
"""Packages that try to write elsewhere, or to leave what gives rights: none of it happens."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from harness.errors import KlpError
from harness.vm.host.process import run
from harness.vm.kernel.finished_spec import Packaging
from harness.vm.kernel.headers import make_movable
from harness.vm.kernel.layout import first_of
from harness.vm.kernel.unpack import unpack
from tests.unit.finished_kernels import debian_root
from tests.unit.test_archive_escapes import ATTEMPTS, entry, seen, write

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from tests.unit.test_archive_escapes import Member

CONTROL = b"Package: x\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@x>\nDescription: x\n"
# rpm2archive has verified names and digests; what it passes on is this archive.
STAND_INS = {
    "rpmkeys": "exit 0",
    "rpm": "echo 1000",
    "rpm2archive": 'cp "{archive}" "$1.tgz"',
}


def packed(
    packaging: Packaging,
    members: list[Member],
    outside: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    deadline: Deadline,
) -> Path:
    """Return a package with these members, whatever their names."""
    folder.mkdir()
    archive = folder / "data.tar"
    write(archive, members, outside)
    if packaging is Packaging.DEB:
        with tarfile.open(folder / "control.tar", "w") as control:
            info = tarfile.TarInfo("./control")
            info.size = len(CONTROL)
            control.addfile(info, io.BytesIO(CONTROL))
        (folder / "debian-binary").write_text("2.0\n")
        names = ["debian-binary", "control.tar", "data.tar"]
        run(["ar", "rc", "x.deb", *names], deadline=deadline, cwd=folder)
        return folder / "x.deb"
    for name, text in STAND_INS.items():
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text.format(archive=archive)}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    (folder / "x.rpm").write_bytes(b"x")
    return folder / "x.rpm"


@pytest.mark.parametrize("packaging", list(Packaging))
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_nothing_is_written_elsewhere(
    tmp_path: Path,
    soon: Deadline,
    monkeypatch: pytest.MonkeyPatch,
    attempt: str,
    packaging: Packaging,
) -> None:
    """Whatever a package names: the folder beside is as before, and no file gives a right."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    package = packed(packaging, ATTEMPTS[attempt], outside, tmp_path / "made", monkeypatch, soon)
    before = seen(outside)
    names = {path.name for path in tmp_path.iterdir()}
    root = tmp_path / "cache" / "root"
    root.parent.mkdir()
    refused = False
    try:
        unpack([package], packaging, root, soon)
        make_movable(root)
    except KlpError:
        refused = True  # and the store removes what is there
    assert seen(outside) == before
    assert {path.name for path in tmp_path.iterdir()} == names | {"cache"}
    assert {path.name for path in root.parent.iterdir()} <= {"root"}
    for path in root.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid()), path
        assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID), path
        plain = stat.S_IFMT(status.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        assert plain or refused, path


def test_links_of_a_package_lead_nowhere_else(tmp_path: Path, soon: Deadline) -> None:
    """A kernel whose parts are links to files of this machine is read from the package, or not."""
    secret = tmp_path / "secret"
    secret.write_text("CONFIG_SECRET=y\n")
    root = debian_root(tmp_path / "root", "6.6.6-test")
    config = root / "boot/config-6.6.6-test"
    config.unlink()
    config.symlink_to(secret)
    assert first_of(root, "boot/config-6.6.6-test") is None
    config.unlink()
    config.symlink_to("../" * 40 + str(secret).lstrip("/"))
    assert first_of(root, "boot/config-6.6.6-test") is None


@pytest.mark.parametrize("packaging", list(Packaging))
def test_a_package_without_an_attempt(
    tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch, packaging: Packaging
) -> None:
    """The same package with ordinary names is unpacked, programs stay programs."""
    members = [entry("./usr/", tarfile.DIRTYPE, mode=0o755), entry("./usr/program", mode=0o755)]
    package = packed(packaging, members, tmp_path, tmp_path / "made", monkeypatch, soon)
    unpack([package], packaging, tmp_path / "root", soon)
    program = tmp_path / "root/usr/program"
    assert program.read_text() == "evil"
    assert os.access(program, os.X_OK)
