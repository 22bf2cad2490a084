# SPDX-License-Identifier: GPL-2.0-only
"""Recordings that are damaged, or made to take very much: wrong usage, within bounds."""

from __future__ import annotations

import os
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.tools.race import recording_file
from harness.tools.race.recording_file import pack, read_note, unpacked
from tests.unit import test_recording
from tests.unit.test_recording import assert_refused, changed, members_in, note_of, with_note

if TYPE_CHECKING:
    from pathlib import Path

file, qemu = test_recording.file, test_recording.qemu


def test_an_archive_that_unpacks_to_very_much_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording of 5 MB took 5 GB: what a member declares is held against a limit first."""
    monkeypatch.setattr(recording_file, "_MOST_BYTES", 100_000)
    assert_refused(changed(file, "inputs", bytes(200_000)), "is damaged: it declares more than")


def test_a_note_that_unpacks_to_very_much_is_refused(file: Path) -> None:
    """The note is read in memory, and no more of it than a note has."""
    assert_refused(
        changed(file, "recording.json", b" " * (5 << 20)), "not a recording that this klp-harness"
    )


@pytest.mark.parametrize("declared", [3, 1 << 20])
def test_a_member_of_another_size_than_it_declares(file: Path, declared: int) -> None:
    """The size in the archive's directory is not what is unpacked: it is not believed."""
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02")
    while not content[at + 46 :].startswith(b"inputs"):
        at = content.index(b"PK\x01\x02", at + 1)
    content[at + 24 : at + 28] = declared.to_bytes(4, "little")
    file.write_bytes(content)
    assert_refused(file, "is damaged")


def test_a_recording_of_many_members_is_refused(file: Path) -> None:
    """A directory of an archive is read as a whole, so it is bounded as well."""
    with zipfile.ZipFile(file, "a") as archive:
        for number in range(70):
            archive.writestr(f"more-{number}", b"")
    assert_refused(file, "not a recording that this klp-harness")


def test_a_pipe_is_no_recording(tmp_path: Path) -> None:
    """It is refused, and not waited for."""
    os.mkfifo(tmp_path / "pipe")
    assert_refused(tmp_path / "pipe", "is a pipe")


@pytest.mark.parametrize("name", ["../inputs", "/tmp/inputs", "a/../../inputs", "inputs/x"])
def test_no_member_is_unpacked_elsewhere(file: Path, name: str) -> None:
    """A recording's members have five names; a note with another is refused."""
    assert_refused(with_note(file, files={name: "0" * 64}), "not a recording that")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_recording_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are overwritten or cut off: read, or wrong usage."""
    folder = tmp_path_factory.mktemp("damage")
    members = members_in(folder / "members")
    file = folder / "a.recording"
    pack(file, note_of(members), members)  # type: ignore[arg-type]
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(len(content) * 3 // 4, len(content)))])
    with suppress(UsageError), unpacked(file, read_note(file)):
        pass
