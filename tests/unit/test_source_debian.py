# SPDX-License-Identifier: GPL-2.0-only
"""Debian's archive, with stand-ins for apt's programs and a real source package."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import DownloadFailed, MissingTool, UsageError
from harness.log import LOGGER
from harness.vm.host.process import run
from harness.vm.kernel.apt import PrivateApt, Sources
from harness.vm.kernel.debian import DebianArchive
from harness.vm.kernel.source import located, obtain_source
from harness.vm.kernel.spec import SeriesSpec
from harness.vm.kernel.tree import source_version

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

APT_GET = """\
#!/bin/sh
# $1 -c, $2 the configuration; every call is written down. What it answers lies in the folder.
cd_back=$PWD; here=$(dirname "$0"); shift 2
echo "$*" >> "$here/whole-calls"; words=
for word; do case "$word" in -o=*) ;; *) words="$words $word" ;; esac; done
set -f; set -- $words; set +f
echo "$*" >> "$here/calls"
case "$*" in
"update --print-uris") cat "$here/mirrors" ;;
update) cat "$here/update-says" >&2; test ! -s "$here/update-says" ;;
"download --print-uris "*) cat "$here/offer-${3}" ;;
download*) test -f "$here/package.deb" || { echo "E: 404 Not Found" >&2; exit 100; }
	cp "$here/package.deb" "$cd_back/${2%=*}_1_all.deb" ;;
esac
"""
APT_CACHE = """\
#!/bin/sh
printf 'linux-source\\nlinux-source-6.18\\nlinux-source-7.2\\nlinux-source-7.10\\nlinux-source-x\\n'
"""
MIRRORS = """\
'http://other.example/linux/debian/dists/bookworm/InRelease' x 0
'http://other.example/linux/debian/dists/bookworm/stable/binary-amd64/Packages.xz' x 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0
'http://mirror.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' x 0
'http://mirror.example/sec/dists/bookworm-security/main/binary-amd64/Packages.xz' x 0
"""


@pytest.fixture
def apt(tmp_path: Path, fake_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with apt's programs first in PATH, which offer a package of the fake tree."""
    folder = tmp_path / "apt"
    folder.mkdir()
    for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "mirrors").write_text(MIRRORS)
    (folder / "update-says").touch()
    package = tmp_path / "package"
    (package / "usr/src").mkdir(parents=True)
    (package / "DEBIAN").mkdir()
    (package / "DEBIAN/control").write_text(
        "Package: linux-source-6.1\nVersion: 6.1.5-1\nArchitecture: all\n"
        "Maintainer: x <x@example.org>\nDescription: x\n"
    )
    with tarfile.open(package / "usr/src/linux-source-6.1.tar.xz", "w:xz") as archive:
        archive.add(fake_tree, "linux-source-6.1")
    deb = folder / "package.deb"
    run(["dpkg-deb", "--build", package, deb], deadline=Deadline.after(30))
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    for name in ("linux-source-6.1", "linux-source-7.10"):
        (folder / f"offer-{name}").write_text(
            f"'http://mirror.example/x.deb' {name}_6.1.5-1_all.deb 12345 SHA256:{digest}\n"
        )
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("KLP_HARNESS_DEBIAN_MIRROR", raising=False)
    return folder


def calls(apt: Path) -> list[str]:
    return (apt / "calls").read_text().splitlines() if (apt / "calls").exists() else []


def test_from_the_mirror_of_the_machine(
    apt: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """The sources list names Debian's mirror and its security archive, and nobody else's."""
    package = DebianArchive(store.root / "debian").resolve("6.1", deadline=soon, progress=recorder)
    assert package.description == "linux-source-6.1 6.1.5-1"
    assert package.size_bytes == 12345
    lines = (store.root / "debian/6.1/sources.list").read_text().splitlines()
    assert [line.split("] ")[-1].removeprefix("deb ") for line in lines] == [
        "http://mirror.example/debian bookworm main",
        "http://mirror.example/sec bookworm-security main",
    ]


@pytest.mark.parametrize(
    ("series", "suites"),
    [("5.10", ["bullseye", "bullseye-security"]), ("6.12", ["trixie", "trixie-security"])],
)
def test_other_releases_come_from_the_same_mirror(
    apt: Path, store: Store, soon: Deadline, recorder: Progress, series: str, suites: list[str]
) -> None:
    """Whatever release the machine runs, each series has its own."""
    shutil.copy(apt / "offer-linux-source-6.1", apt / f"offer-linux-source-{series}")
    DebianArchive(store.root / "debian").resolve(series, deadline=soon, progress=recorder)
    lines = (store.root / f"debian/{series}/sources.list").read_text().splitlines()
    assert [line.split()[-2] for line in lines] == suites


def test_newest_is_the_highest_number(
    apt: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """7.10 is newer than 7.2; it is looked up in unstable and recorded."""
    archive = DebianArchive(store.root / "debian")
    package = archive.resolve("newest", deadline=soon, progress=recorder)
    assert package.name == "linux-source-7.10"
    assert (store.root / "debian/newest/sources.list").read_text().split()[-2:] == ["sid", "main"]
    before = calls(apt)
    assert archive.resolve("newest", deadline=soon, progress=recorder) == package
    assert calls(apt) == before


def test_apt_gets_state_of_our_own(
    apt: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """No folder of the system's apt is written, and its hooks do not run."""
    DebianArchive(store.root / "debian").resolve("6.1", deadline=soon, progress=recorder)
    folder = store.root / "debian/6.1"
    assert "#clear APT::Update::Post-Invoke-Success;" in (folder / "apt.conf").read_text()
    asked = (apt / "whole-calls").read_text()
    for name in ("Dir::State", "Dir::State::lists", "Dir::State::status", "Dir::Cache"):
        assert f"-o={name}={folder}/" in asked
    assert f"-o=Dir::Etc::sourcelist={folder}/sources.list" in asked


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="only Debian and its kin have apt")
@pytest.mark.parametrize("name", ['a"b', "a b;c", "a'b", "{x}", "#clear", "a\\b", "é"])
def test_any_folder_is_named_to_apt(tmp_path: Path, soon: Deadline, name: str) -> None:
    """A quote in the cache's path ended the value in apt.conf, and apt read what came after it."""
    apt = PrivateApt(tmp_path / name, Sources.OWN)
    with apt.locked(soon):
        shown = apt.run("apt-config", "dump", deadline=soon).stdout.splitlines()
    assert f'Dir::State::lists "{tmp_path / name}/lists";' in shown
    assert f'Dir::Etc::sourcelist "{tmp_path / name}/sources.list";' in shown


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\udcffb"])
def test_a_folder_that_apt_cannot_name(tmp_path: Path, soon: Deadline, name: str) -> None:
    """apt's protocol has lines, and its output is read as text."""
    with pytest.raises(UsageError, match="control characters"):
        PrivateApt(tmp_path / name, Sources.OWN).run("apt-get", "update", deadline=soon)


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="only Debian and its kin have apt")
def test_signatures_are_required_whatever_the_machine_allows(
    tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the machine's apt.conf allows is not allowed here."""
    allowed = (
        "APT::Get::AllowUnauthenticated",
        "Acquire::AllowInsecureRepositories",
        "Acquire::AllowWeakRepositories",
        "Acquire::AllowDowngradeToInsecureRepositories",
    )
    (tmp_path / "machine.conf").write_text("".join(f'{name} "true";\n' for name in allowed))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "machine.conf"))
    apt = PrivateApt(tmp_path / "apt", Sources.MACHINE)
    with apt.locked(soon):
        shown = apt.run("apt-config", "dump", deadline=soon).stdout.splitlines()
    for name in allowed:
        assert [line for line in shown if line.startswith(f"{name} ")] == [f'{name} "false";']


def test_a_mirror_that_is_named(
    apt: Path, store: Store, soon: Deadline, recorder: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KLP_HARNESS_DEBIAN_MIRROR goes before what apt knows, where that is not Debian."""
    monkeypatch.setenv("KLP_HARNESS_DEBIAN_MIRROR", "http://named.example/debian/")
    DebianArchive(store.root / "debian").resolve("6.1", deadline=soon, progress=recorder)
    text = (store.root / "debian/6.1/sources.list").read_text()
    assert "http://named.example/debian bookworm main" in text
    assert "http://named.example/debian-security bookworm-security main" in text


def test_no_network(apt: Path, store: Store, soon: Deadline, recorder: Progress) -> None:
    """A sentence, apt's own complaints, and nothing recorded."""
    (apt / "offer-linux-source-6.1").write_text("")
    (apt / "update-says").write_text("E: Failed to fetch http://mirror.example/x\n")
    archive = DebianArchive(store.root / "debian")
    with pytest.raises(DownloadFailed, match=r"no source package for 6\.1") as caught:
        archive.resolve("6.1", deadline=soon, progress=recorder)
    assert caught.value.details == ("E: Failed to fetch http://mirror.example/x",)
    assert caught.value.hint is not None
    assert "network" in caught.value.hint


def test_an_old_answer_holds_without_a_network(
    apt: Path,
    store: Store,
    soon: Deadline,
    recorder: Progress,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A warm machine goes on working, says so, and asks again the next time."""
    archive = DebianArchive(store.root / "debian")
    package = archive.resolve("6.1", deadline=soon, progress=recorder)
    record = store.root / "debian/6.1/resolved.json"
    old = {**json.loads(record.read_text()), "resolved_s": time.time() - 8 * 86400}
    record.write_text(json.dumps(old))
    (apt / "update-says").write_text("E: Failed to fetch\n")
    for _ in range(2):
        before = len(calls(apt))
        caplog.clear()
        with caplog.at_level("WARNING", LOGGER.name):
            again = archive.resolve("6.1", deadline=soon, progress=recorder)
        assert again.checksum == package.checksum
        assert "linux-source-6.1 6.1.5-1" in caplog.text
        assert len(calls(apt)) > before


def test_the_tree_of_a_package(apt: Path, store: Store, soon: Deadline, recorder: Progress) -> None:
    """The package is fetched, unpacked and cleaned up; the second time nothing is fetched."""
    for _ in range(2):
        with located(
            SeriesSpec(series="6.1"), store=store, deadline=soon, progress=recorder
        ) as source:
            tree = obtain_source(source, store=store, deadline=soon, progress=recorder)
        assert source.description == "linux-source-6.1 6.1.5-1"
        assert source_version(tree) == "6.1.0-fake"
        assert [path.name for path in tree.parent.iterdir() if path.is_dir()] == ["linux"]
    assert sum(call.startswith("download linux") for call in calls(apt)) == 1


def test_a_package_with_other_content(
    apt: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """What does not have the promised digest is not kept."""
    with (apt / "package.deb").open("ab") as file:
        file.write(b"more")
    spec = SeriesSpec(series="6.1")
    with (
        pytest.raises(DownloadFailed, match="does not have the checksum"),
        located(spec, store=store, deadline=soon, progress=recorder) as source,
    ):
        obtain_source(source, store=store, deadline=soon, progress=recorder)
    assert store.entries("source") == []


def test_a_version_that_is_gone(
    apt: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """The archive moved on: this run fails with a sentence, the next one asks again."""
    (apt / "package.deb").unlink()
    spec = SeriesSpec(series="6.1")
    with (
        pytest.raises(DownloadFailed, match="could not be fetched") as caught,
        located(spec, store=store, deadline=soon, progress=recorder) as source,
    ):
        obtain_source(source, store=store, deadline=soon, progress=recorder)
    assert caught.value.details == ("E: 404 Not Found",)
    assert not (store.root / "debian/6.1/resolved.json").exists()


def test_a_machine_without_apt(
    store: Store, soon: Deadline, recorder: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere than on Debian and Ubuntu the hint names the other ways."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingTool, match="apt") as caught:
        DebianArchive(store.root / "debian").resolve("6.1", deadline=soon, progress=recorder)
    assert caught.value.hint is not None
    assert "tarball" in caught.value.hint
