# SPDX-License-Identifier: GPL-2.0-only
"""What users put into guests: files, folders, and a load of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.tools.verify.request import LoadProfile
from harness.tools.verify.user_load import libraries_of, parse_loads
from harness.vm.guest.guest_files import guest_files
from harness.vm.host.process import find_program


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    """A folder gives all files in it, at the same places below its own."""
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/one").write_text("1")
    (tmp_path / "a:b").write_text("2")
    found = guest_files([f"{tmp_path}/tree:/srv/", f"{tmp_path}/a:b:/etc/two"])
    assert found == {
        "/srv/sub/one": tmp_path / "tree/sub/one",
        "/etc/two": tmp_path / "a:b",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file", "not of the form"),
        (":/etc/x", "not of the form"),
        ("{}/file:etc/x", "not of the form"),
        ("{}/file:/etc/../init", "not of the form"),
        ("{}/file:/init", "would replace"),
        ("{}/file:/etc/dropbear/host_key", "would replace"),
        ("{}/absent:/etc/x", "there is no file"),
        ("{}/empty:/etc/x", "there is no file in"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """Before a kernel is built, and not in the guest."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=why):
        guest_files([text.format(tmp_path)])


def test_a_load_is_a_profile_or_a_program(tmp_path: Path) -> None:
    """A program has to be one: a file that can be executed."""
    program = tmp_path / "load.sh"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(UsageError, match="cannot be executed"):
        parse_loads([str(program)])
    program.chmod(0o755)
    assert parse_loads(["forks", str(program)]) == (LoadProfile.FORKS, program)
    with pytest.raises(UsageError, match="is no load, and no file"):
        parse_loads(["fork"])


def test_a_program_brings_its_libraries(tmp_path: Path) -> None:
    """One that is linked dynamically would not start in a guest without them; a script has none."""
    script = tmp_path / "load.sh"
    script.write_text("#!/bin/sh\n")
    assert libraries_of([LoadProfile.CPU, script]) == {}
    found = libraries_of([Path(find_program("cpio"))])
    assert any("libc.so" in place for place in found)
    assert not any(place.endswith("/load") for place in found)
