# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in rpms by the machine's dnf or zypper: which packages it takes, and what goes wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.errors import DownloadFailed, MissingTool, UsageError
from harness.vm.kernel.rpm_archive import RpmArchive, RpmPackage
from tests.unit.finished_kernels import write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.kernel.progress import Progress
    from harness.vm.kernel.rpm_archive import RpmKernel

FEDORA = [
    ("kernel", "6.5.6-300.fc39", "x86_64"),
    ("kernel-core", "6.5.6-300.fc39", "x86_64"),
    ("kernel-core", "6.5.10-300.fc39", "x86_64"),
    ("kernel-core", "6.9.0-1.fc39", "aarch64"),
    ("kernel-modules-core", "6.5.6-300.fc39", "x86_64"),
    ("kernel-modules-core", "6.5.10-300.fc39", "x86_64"),
    ("kernel-devel", "6.5.6-300.fc39", "x86_64"),
    ("kernel-devel", "6.5.10-300.fc39", "x86_64"),
    ("kernel-debuginfo", "6.5.10-300.fc39", "x86_64"),
]
SUSE = [
    ("kernel-default", "6.4.0-150600.21.1", "x86_64"),
    ("kernel-default-devel", "6.4.0-150600.21.1", "x86_64"),
    ("kernel-devel", "6.4.0-150600.21.1", "noarch"),
    ("kernel-rt", "6.4.0-150600.9.1", "x86_64"),
]
DNF = """\
#!/usr/bin/python3
import fnmatch, json, pathlib, sys
here = pathlib.Path(__file__).parent
rows = json.loads((here / "rows").read_text())
words = [word for word in sys.argv[1:] if not word.startswith("--")]
command, names = words[0], words[1:]
(here / "calls").open("a").write(command + "\\n")
if (here / "offline").exists():
    sys.exit("Error: Failed to download metadata for repo 'fedora'")
found = [r for r in rows if r[0] in names or "-".join(r[:2]) in names or
         "%s-%s.%s" % tuple(r) in names]
if command == "repoquery":
    for row in found:
        print("\\t".join(row) + "\\n")
else:
    to = next(w.partition("=")[2] for w in sys.argv if w.startswith("--destdir="))
    for row in found[(here / "lossy").exists():]:
        (pathlib.Path(to) / ("-".join(row) + ".rpm")).write_text("x")
"""
ZYPPER = """\
#!/usr/bin/python3
import json, pathlib, sys
here = pathlib.Path(__file__).parent
rows = json.loads((here / "rows").read_text())
words = [word for word in sys.argv[1:] if not word.startswith("--")]
command, names = words[0], words[1:]
if (here / "garbled").exists():
    print("<stream><search")
elif command == "search":
    print("<?xml version='1.0'?><stream><search-result><solvable-list>")
    found = [r for r in rows if r[0] in names]
    for name, edition, arch in found:
        print(f'<solvable kind="package" name="{name}" edition="{edition}" arch="{arch}"/>')
    print("</solvable-list></search-result></stream>")
    sys.exit(0 if found else 104)
else:
    to = next(w.partition("=")[2] for w in sys.argv if w.startswith("--pkg-cache-dir="))
    for row in rows:
        if "=".join(row[:2]) in names:
            path = pathlib.Path(to, "repo", "-".join(row) + ".rpm")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a package manager first in PATH, which offers these packages."""

    def offer(name: str, rows: list[tuple[str, str, str]]) -> Path:
        program = {"dnf": DNF, "zypper": ZYPPER}[name]
        folder = write_files(tmp_path / "bin", {name: program, "rows": json.dumps(rows)})
        monkeypatch.setattr(
            "harness.vm.kernel.rpm_archive.find_program", lambda wanted: _find(folder, wanted)
        )
        return folder

    return offer


def _find(folder: Path, wanted: str) -> str:
    if not (folder / wanted).exists():
        raise MissingTool(f"the program {wanted} is not installed")
    return str(folder / wanted)


@pytest.fixture
def resolve(tmp_path: Path, soon: Deadline, recorder: Progress) -> Callable[..., RpmKernel]:
    def call(*named: str) -> RpmKernel:
        archive = RpmArchive(tmp_path / "packages")
        return archive.resolve(named, deadline=soon, progress=recorder)

    return call


@pytest.mark.parametrize(
    ("manager", "rows", "name", "wanted"),
    [
        ("dnf", FEDORA, "kernel-core", {"kernel-core", "kernel-modules-core", "kernel-devel"}),
        (
            "zypper",
            SUSE,
            "kernel-default",
            {"kernel-default", "kernel-default-devel", "kernel-devel"},
        ),
    ],
)
def test_a_name_leads_to_all_parts(
    manager: str,
    rows: list[tuple[str, str, str]],
    name: str,
    wanted: set[str],
    machine: Callable[..., Path],
    resolve: Callable[..., RpmKernel],
) -> None:
    """Image, modules, headers, of the newest version for x86_64, all of that one version."""
    machine(manager, rows)
    kernel = resolve(name)
    assert {each.name for each in kernel.packages} == wanted
    assert len({each.version for each in kernel.packages}) == 1
    assert kernel.description == f"{name} {kernel.packages[0].version}"
    assert kernel.packages[0].version in ("6.5.10-300.fc39", "6.4.0-150600.21.1")


def test_an_older_version_by_its_name(
    machine: Callable[..., Path], resolve: Callable[..., RpmKernel]
) -> None:
    """As dnf takes it; the other parts have that version too."""
    machine("dnf", FEDORA)
    kernel = resolve("kernel-core-6.5.6-300.fc39")
    assert {each.version for each in kernel.packages} == {"6.5.6-300.fc39"}
    assert "kernel-devel" in {each.name for each in kernel.packages}


def test_further_packages(machine: Callable[..., Path], resolve: Callable[..., RpmKernel]) -> None:
    """Debug information is large, and is taken when it is named."""
    machine("dnf", FEDORA)
    assert "kernel-debuginfo" not in {each.name for each in resolve("kernel-core").packages}
    kernel = resolve("kernel-core", "kernel-debuginfo")
    assert "kernel-debuginfo" in {each.name for each in kernel.packages}
    with pytest.raises(UsageError, match="knows no package kernel-nothing"):
        resolve("kernel-core", "kernel-nothing")


@pytest.mark.parametrize(
    ("manager", "rows", "name", "said"),
    [
        ("dnf", FEDORA, "kernel-none", "dnf on this machine knows no package kernel-none"),
        ("zypper", SUSE, "kernel-none", "zypper on this machine knows no package kernel-none"),
        ("dnf", FEDORA[3:4], "kernel-core", "no package kernel-core for x86_64"),
        ("dnf", FEDORA[:6], "kernel-core", "knows no headers .* of kernel-core 6.5.10-300"),
        ("zypper", SUSE[:1], "kernel-default", "knows no headers .* of kernel-default"),
        ("zypper", SUSE, "kernel-rt", "knows no headers .* of kernel-rt 6.4.0-150600.9.1"),
    ],
)
def test_what_is_not_there(
    manager: str,
    rows: list[tuple[str, str, str]],
    name: str,
    said: str,
    machine: Callable[..., Path],
    resolve: Callable[..., RpmKernel],
) -> None:
    """One sentence, before anything is fetched; headers of another version are none."""
    machine(manager, rows)
    with pytest.raises(UsageError, match=said) as caught:
        resolve(name)
    assert caught.value.hint


def test_it_is_asked_for_once(
    machine: Callable[..., Path], resolve: Callable[..., RpmKernel]
) -> None:
    """A second run needs no network."""
    folder = machine("dnf", FEDORA)
    first = resolve("kernel-core")
    (folder / "offline").touch()
    before = (folder / "calls").read_text()
    assert resolve("kernel-core") == first
    assert (folder / "calls").read_text() == before
    with pytest.raises(DownloadFailed, match="dnf could not answer") as caught:
        resolve("kernel")
    assert "Failed to download metadata" in caught.value.details[0]


def test_an_answer_that_is_cut_off(
    machine: Callable[..., Path], resolve: Callable[..., RpmKernel]
) -> None:
    """zypper was killed while it wrote."""
    folder = machine("zypper", SUSE)
    (folder / "garbled").touch()
    with pytest.raises(DownloadFailed, match="zypper's answer cannot be read"):
        resolve("kernel-default")


def test_a_machine_without_both(
    machine: Callable[..., Path], resolve: Callable[..., RpmKernel]
) -> None:
    """On Debian packages have another prefix, which is said."""
    machine("dnf", FEDORA).joinpath("dnf").unlink()
    with pytest.raises(MissingTool, match="neither dnf nor zypper") as caught:
        resolve("kernel-core")
    assert "deb:PACKAGE" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("manager", "rows", "name"),
    [("dnf", FEDORA, "kernel-core"), ("zypper", SUSE, "kernel-default")],
)
def test_the_files_are_fetched(
    manager: str,
    rows: list[tuple[str, str, str]],
    name: str,
    machine: Callable[..., Path],
    resolve: Callable[..., RpmKernel],
    tmp_path: Path,
    soon: Deadline,
    recorder: Progress,
) -> None:
    """One file for each package; fewer are a failure."""
    folder = machine(manager, rows)
    kernel, to = resolve(name), tmp_path / "out"
    to.mkdir()
    archive = RpmArchive(tmp_path / "packages")
    files = archive.download(kernel, to, deadline=soon, progress=recorder)
    assert len(files) == len(kernel.packages) == 3
    if manager == "dnf":
        for file in files:
            file.unlink()
        (folder / "lossy").touch()
        with pytest.raises(DownloadFailed, match="of 3 packages 2 were fetched"):
            archive.download(kernel, to, deadline=soon, progress=recorder)


def test_versions_are_compared_by_their_numbers() -> None:
    """6.5.10 is later than 6.5.6; a release candidate comes before its release."""
    in_order = [
        "6.4.9-1",
        "6.5.0~rc1-1",
        "6.5.0-1",
        "6.5.6-300",
        "6.5.10-2",
        "6.5.10-10",
        "6.10.0-1",
    ]
    packages = [RpmPackage(name="k", version=version, arch="x86_64") for version in in_order]
    shuffled = packages[3:] + packages[:3]
    assert sorted(shuffled, key=lambda each: each.sort_key) == packages
