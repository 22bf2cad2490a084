# SPDX-License-Identifier: GPL-2.0-only
"""Archives that try to write elsewhere than where they are unpacked: nothing is written there."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from harness.errors import KlpError
from harness.vm.kernel import source

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline

Member = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    content = b"evil" if kind == tarfile.REGTYPE else b""
    info.size = len(content)
    info.devmajor, info.devminor = 1, 5
    return info, content


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
# OUT is the folder beside, in which nothing may change; it holds a file `kept`.
ATTEMPTS: dict[str, list[Member]] = {
    "absolute": [entry("OUT/new")],
    "absolute, two slashes": [entry("/OUT/new")],
    "dots first": [entry("../new"), entry("../../new"), entry("../../../new")],
    "dots within": [entry("linux/../../new"), entry("linux/a/../../../new")],
    "dots at the end": [entry("linux/..", tarfile.DIRTYPE, mode=0o777)],
    "dot name": [entry("./../new")],
    "symlink out, then through it": [entry("linux/l", SYM, "OUT"), entry("linux/l/new")],
    "symlink of dots, then through it": [entry("linux/l", SYM, "../.."), entry("linux/l/new")],
    "top symlink, then through it": [entry("linux", SYM, "OUT"), entry("linux/new")],
    "chain of symlinks": [
        entry("linux/a", SYM, "OUT"),
        entry("linux/b", SYM, "a"),
        entry("linux/b/new"),
    ],
    "symlink replaced": [
        entry("linux/l", SYM, "OUT/kept"),
        entry("linux/l"),
    ],
    "symlink to a file, then the file": [entry("linux/l", SYM, "OUT/new"), entry("linux/l")],
    "symlink, then a folder": [
        entry("linux/l", SYM, "OUT"),
        entry("linux/l", tarfile.DIRTYPE, mode=0o777),
        entry("linux/l/new"),
    ],
    "hard link out": [entry("linux/l", HARD, "OUT/kept"), entry("linux/l")],
    "hard link of dots": [entry("linux/l", HARD, "../../OUT/kept")],
    "hard link to a symlink": [
        entry("linux/s", SYM, "OUT/kept"),
        entry("linux/l", HARD, "linux/s"),
        entry("linux/l"),
    ],
    "hard link through a symlink": [
        entry("linux/s", SYM, "OUT"),
        entry("linux/l", HARD, "linux/s/kept"),
    ],
    "character device": [entry("linux/d", tarfile.CHRTYPE)],
    "block device": [entry("linux/d", tarfile.BLKTYPE)],
    "pipe": [entry("linux/p", tarfile.FIFOTYPE), entry("linux/Makefile/x")],
    "setuid": [entry("linux/s", mode=0o4755)],
    "setgid": [entry("linux/s", mode=0o2755)],
    "another owner": [entry("linux/o")],
    "newline": [entry("linux/\n/../../../new")],
}


def write(path: Path, members: list[Member], outside: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for info, content in members:
            info.name = info.name.replace("OUT", str(outside))
            info.linkname = info.linkname.replace("OUT", str(outside))
            info.uid = info.gid = 12345
            archive.addfile(info, io.BytesIO(content))


def seen(folder: Path) -> list[tuple[str, int, int, bytes]]:
    return sorted(
        (str(path), path.lstat().st_mode, path.lstat().st_nlink, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    )


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_nothing_is_written_elsewhere(tmp_path: Path, soon: Deadline, attempt: str) -> None:
    """Whatever an archive of sources names: the folder beside it is as before, no id is another's.

    Device nodes are of no use as sources and are refused or left where only their owner reads them.
    """
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    inside = tmp_path / "cache"
    inside.mkdir()
    tarball = tmp_path / "linux.tar"
    write(tarball, ATTEMPTS[attempt], outside)
    before = seen(outside)
    names = {path.name for path in tmp_path.iterdir()}
    try:
        source._unpack(tarball, inside / "linux", soon)
    except KlpError:
        assert not (inside / "linux").exists()
    assert seen(outside) == before
    assert {path.name for path in tmp_path.iterdir()} == names
    assert {path.name for path in inside.iterdir()} <= {"linux"}
    for path in inside.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid()), path
        assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID), path
        assert not stat.S_ISBLK(status.st_mode), path
        assert not stat.S_ISCHR(status.st_mode), path


def test_an_archive_without_an_attempt_is_unpacked(
    tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same archive with ordinary names is unpacked, links within it too."""
    monkeypatch.chdir(tmp_path)
    members = [entry("linux/a"), entry("linux/l", SYM, "a"), entry("linux/h", HARD, "linux/a")]
    write(tmp_path / "linux.tar", members, tmp_path / "outside")
    source._unpack(tmp_path / "linux.tar", tmp_path / "tree", soon)
    assert (tmp_path / "tree/l").read_text() == (tmp_path / "tree/h").read_text() == "evil"
