# SPDX-License-Identifier: GPL-2.0-only
"""What may stand after --kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.vm.kernel.finished_spec import PackageSpec
from harness.vm.kernel.spec import (
    BuildSpec,
    ReleaseSpec,
    SeriesSpec,
    Spec,
    TarballSpec,
    TreeSpec,
    UrlSpec,
    parse_spec,
)

if TYPE_CHECKING:
    from pathlib import Path

SUM = "ab" * 32


@pytest.mark.parametrize("series", ["5.10", "6.1", "6.12", "newest"])
def test_series(series: str) -> None:
    """The series of Debian and newest are known by name."""
    assert parse_spec(series) == SeriesSpec(series=series)


@pytest.mark.parametrize("series", ["5.10", "6.1", "6.12", "newest"])
def test_series_of_debian_by_its_name(series: str) -> None:
    """With debian: in front it is said, and not only meant, whose sources they are."""
    assert parse_spec(f"debian:{series}") == SeriesSpec(series=series)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("v6.6.52", ReleaseSpec(version="6.6.52")),
        ("6.6.52", ReleaseSpec(version="6.6.52")),
        ("v6.6", ReleaseSpec(version="6.6")),
        ("v6.1", ReleaseSpec(version="6.1")),
        ("6.1.100", ReleaseSpec(version="6.1.100")),
        ("6.6", ReleaseSpec(version="6.6", newest=True)),
    ],
)
def test_releases(text: str, spec: ReleaseSpec) -> None:
    """A series of Debian is Debian's; another one, and each release, is kernel.org's."""
    assert parse_spec(text) == spec


def test_paths_and_urls(tmp_path: Path) -> None:
    """A folder is a tree, a file a tarball, build: a finished build, http a tarball elsewhere."""
    tarball = tmp_path / "linux-6.6.tar.xz"
    tarball.touch()
    expected: dict[str, Spec] = {
        str(tmp_path): TreeSpec(path=tmp_path),
        str(tarball): TarballSpec(path=tarball, sha256=None),
        f"build:{tmp_path}": BuildSpec(path=tmp_path),
        "deb:linux-image-amd64": PackageSpec(name="linux-image-amd64"),
    }
    assert {text: parse_spec(text) for text in expected} == expected
    url = "https://example.org/linux-6.6.tar.xz"
    assert parse_spec(url, sha256=SUM.upper()) == UrlSpec(url=url, sha256=SUM)


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build runs in other folders, so paths do not depend on the current one."""
    (tmp_path / "linux").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_spec("linux") == TreeSpec(path=tmp_path / "linux")


@pytest.mark.parametrize(
    ("text", "sha256", "said"),
    [
        ("6.x", None, "unknown kernel"),
        ("v6", None, "unknown kernel"),
        ("6.06", None, "unknown kernel"),
        ("v6.6-rc1", None, "no signed tarball"),
        ("debian:6.6", None, "no series that Debian has"),
        ("debian:", None, "no series that Debian has"),
        ("git:", None, "names no revision"),
        ("git:#v6.6", None, "names no revision"),
        ("git:./nowhere#v6.6", None, "no folder"),
        ("v6.6", SUM, "does not go with"),
        ("", None, "unknown kernel"),
        ("./nowhere", None, "no file or folder"),
        ("nowhere.tar.xz", None, "no file or folder"),
        ("build:nowhere", None, "no folder"),
        ("deb:linux-image-amd64", SUM, "does not go with"),
        ("ftp://example.org/linux.tar.xz", SUM, "no http or https URL"),
        ("https://example.org/linux.tar.xz", None, "must be known before"),
        ("https://example.org/linux.tar.xz", "abc", "no SHA-256"),
        ("6.1", SUM, "does not go with"),
    ],
)
def test_what_is_refused(text: str, sha256: str | None, said: str) -> None:
    """Anything else is wrong usage, in a sentence that says why, with a hint."""
    with pytest.raises(UsageError, match=said) as caught:
        parse_spec(text, sha256=sha256)
    assert caught.value.hint


def test_unknown_names_are_answered_with_what_is_accepted() -> None:
    """The hint lists the series and the other forms."""
    with pytest.raises(UsageError) as caught:
        parse_spec("latest")
    assert caught.value.hint is not None
    assert all(word in caught.value.hint for word in ("5.10", "newest", "tarball", "build:DIR"))


def test_a_file_that_is_no_tarball(tmp_path: Path) -> None:
    """A file is judged by its name before anything is unpacked."""
    (tmp_path / "vmlinux").touch()
    with pytest.raises(UsageError, match="neither a folder nor a tarball"):
        parse_spec(str(tmp_path / "vmlinux"))
