# SPDX-License-Identifier: GPL-2.0-only
"""Temporary folders: what is left of them, and what a sweep takes for one that was left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from harness.vm.host import held, temporary
from harness.vm.host.temporary import sweep_temporary, temporary_folder

if TYPE_CHECKING:
    from pathlib import Path

USE = """
import sys
from harness.vm.host.temporary import temporary_folder

with temporary_folder("killed") as folder:
    (folder / "below").mkdir()
    (folder / "below" / "a-file").write_text("large")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are made, in a test and in its children."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_it_is_removed_at_its_end(place: Path) -> None:
    """With all that is in it."""
    with temporary_folder("test") as folder:
        assert folder.name.startswith("klp-test-")
        (folder / "file").touch()
    assert names(place) == []


def test_what_a_killed_process_left_is_removed(place: Path) -> None:
    """By the next sweep, and not while it lives."""
    with subprocess.Popen(
        [sys.executable, "-c", USE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        folder = child.stdout.readline().strip()
        sweep_temporary()
        assert [str(path) for path in place.iterdir()] == [folder]
        child.send_signal(signal.SIGKILL)
    assert names(place) != []
    sweep_temporary()
    assert names(place) == []


def test_only_folders_of_ours_are_removed(place: Path) -> None:
    """A name alone does not make it one, nor is a link followed."""
    (place / "klp-patches").mkdir()
    (place / "klp-patches" / "in-use").touch()
    mine = place / "mine"
    mine.mkdir()
    (mine / temporary._LOCK).touch()
    (place / "klp-link").symlink_to(mine)
    sweep_temporary()
    assert names(place) == ["klp-link", "klp-patches", "mine"]
    assert (mine / temporary._LOCK).exists()


def test_another_users_folder_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root could remove it, and does not."""
    (place / "klp-theirs").mkdir()
    (place / "klp-theirs" / temporary._LOCK).touch()
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    sweep_temporary()
    assert names(place) == ["klp-theirs"]
    monkeypatch.setattr(os, "geteuid", lambda: own)
    sweep_temporary()
    assert names(place) == []


def test_one_that_was_swept_before_it_was_held(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one is made."""
    tries: list[Path] = []

    def hold(lock: Path) -> int | None:
        tries.append(lock.parent)
        if len(tries) == 1:
            lock.parent.rmdir()
        return held.hold(lock)

    monkeypatch.setattr(temporary, "hold", hold)
    with temporary_folder("test") as folder:
        assert tries[1:] == [folder]
        assert names(place) == [folder.name]
    assert names(place) == []
