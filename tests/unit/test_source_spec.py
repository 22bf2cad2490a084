# SPDX-License-Identifier: GPL-2.0-only
"""What may stand after --kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.vm.kernel.spec import (
    BuildSpec,
    PackageSpec,
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
        ("6.99", None, "unknown kernel"),
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
