# SPDX-License-Identifier: GPL-2.0-only
"""The file of a recording, what is refused of it, and a replay with a QEMU that is a script."""

from __future__ import annotations

import json
import os
import re
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import ExitCode, HarnessError, UsageError
from harness.tools.race import record_command as race_record
from harness.tools.race.recording import argv_of, difference, gdb_command, replay, require_one_cpu
from harness.tools.race.recording_file import (
    IMAGE,
    RecordingNote,
    kernel_member,
    pack,
    read_note,
    unpacked,
)
from harness.tools.race.reproducer import reproducer
from harness.vm.cluster.artefacts import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.deadline import Deadline

QEMU = "QEMU emulator version 7.2.22"
CONSOLE = b"[    0.0] Linux\r\n[    0.1] klp-harness: guest is ready\r\n\xff\r\n"
MEMBERS = {
    "inputs": b"\0\x0c" * 5000,
    "initrd": b"070701",
    "bzImage": b"MZ" * 4000,
    "vmlinux": b"\x7fELF",
    "console.log": CONSOLE,
}

# Prints the file "says" to the console, and ends with the exit code in the file "ends".
SCRIPT = """#!/bin/sh
here=$(dirname "$0")
case "$*" in *--version*) echo "{version}"; exit ;; esac
for word; do
	case "$word" in
	file,id=serial0,path=*) cp "$here/says" "${{word#*path=}}" ;;
	unix:*,server=on,wait=off) word=${{word#unix:}}; : > "${{word%%,*}}"; sleep 1 ;;
	esac
done
exit "$(cat "$here/ends")"
"""


@pytest.fixture(autouse=True)
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QEMU that gives the recorded console again; returns the folder of what it does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "qemu-system-x86_64"
    program.write_text(SCRIPT.format(version=QEMU))
    program.chmod(0o755)
    (folder / "says").write_bytes(CONSOLE)
    (folder / "ends").write_text("0")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def note_of(files: dict[str, Path], **changed: object) -> RecordingNote:
    text: dict[str, object] = {
        "reproducer": "fork-stale-forward",
        "seed": 3,
        "kernel": "6.1.192 (linux-source-6.1 6.1.192-2)",
        "digest": "2b0e57ac",
        "qemu": QEMU,
        "argv": argv_of(256, (), kernel_member(files)),
        "memory_mib": 256,
        "seconds": 12.0,
        "shown": True,
        "message": "the kernel complained: WARNING in klp_complete_transition",
        "files": {name: digest_of(path) for name, path in files.items()},
    }
    return RecordingNote.model_validate(text | changed)


def members_in(folder: Path, **changed: bytes | None) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    files = {}
    for name, data in (MEMBERS | changed).items():
        if data is not None:
            files[name] = folder / name
            files[name].write_bytes(data)
    return files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A recording."""
    members = members_in(tmp_path / "members")
    target = tmp_path / "a.recording"
    pack(target, note_of(members), members)  # type: ignore[arg-type]
    return target


def changed(file: Path, member: str, data: bytes | None) -> Path:
    """Write the recording again with another member, or without it."""
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    del contents[member]
    with zipfile.ZipFile(file, "w") as archive:
        for name, old in contents.items():
            archive.writestr(name, old)
        if data is not None:
            archive.writestr(member, data)
    return file


def with_note(file: Path, **fields: object) -> Path:
    with zipfile.ZipFile(file) as archive:
        note = json.loads(archive.read("recording.json"))
    return changed(file, "recording.json", json.dumps(note | fields).encode())


def giving(made: object) -> Callable[..., object]:
    """A function that returns that, whatever it is called with."""
    return lambda *_, **__: made


def run_replay(*arguments: object) -> tuple[int, str]:
    """The exit code of `race replay`, and its output with single blanks."""
    result = CliRunner().invoke(app, ["race", "replay", *map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


def assert_refused(file: Path, message: str) -> None:
    """Assert that `race replay` calls the file wrong usage, with that message."""
    code, text = run_replay(file)
    assert (code, message in text) == (ExitCode.USAGE, True), text


def test_a_recording_comes_back_as_it_was(file: Path) -> None:
    """Packing and unpacking changes no byte, and leaves nothing behind."""
    note = read_note(file)
    assert note.seed == 3
    with unpacked(file, note) as folder:
        assert {name: (folder / name).read_bytes() for name in MEMBERS} == MEMBERS
    assert not folder.exists()
    assert [path.name for path in file.parent.glob("*recording*")] == ["a.recording"]


def test_the_same_console_is_success(file: Path, tmp_path: Path) -> None:
    """Every replay is compared, and the console can be kept."""
    code, text = run_replay(file, "--times", "2", "--console", tmp_path / "console")
    assert (code, re.findall(r"replay \d of 2", text)) == (
        ExitCode.HELD,
        ["replay 1 of 2", "replay 2 of 2"],
    )
    assert f"{len(CONSOLE)} bytes on the console, as recorded" in text
    assert (tmp_path / "console").read_bytes() == CONSOLE


def test_the_report_of_a_replay_says_what_is_shown(file: Path, tmp_path: Path) -> None:
    """The JSON report of a replay has the recorded message, seed and number of replays."""
    report = tmp_path / "report.json"
    assert run_replay(file, "--json", report)[0] == ExitCode.HELD
    (result,) = json.loads(report.read_text())["results"]
    assert (result["outcome"], result["seed"], result["trials"]) == ("passed", 3, 1)
    assert result["detail"] == "the kernel complained: WARNING in klp_complete_transition"


@pytest.mark.parametrize(
    ("shown", "message", "outcome", "code"),
    [
        (True, "a splat", "shown", ExitCode.VERDICT),
        (False, "the guest panicked", "failed", ExitCode.VERDICT),
        (False, None, "not-shown", ExitCode.HELD),
    ],
)
def test_what_a_recording_shows_is_its_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: bool,
    message: str | None,
    outcome: str,
    code: ExitCode,
) -> None:
    """As it is of `race run`; the file is written in every case."""

    def recorded(
        race: object, session: object, kernel: object, target: Path, **_: object
    ) -> RecordingNote:
        target.write_bytes(b"")
        return note_of({}, shown=shown, message=message)

    kernel = SimpleNamespace(version="6.1.192", describe=lambda: "6.1.192")
    prepared: dict[str, object] = {
        "prepare_accel": None,
        "prepare_kernel": kernel,
        "prepare_modules": {},
    }
    for name, made in prepared.items():
        monkeypatch.setattr(race_record, name, giving(made))
    monkeypatch.setattr("harness.vm.guest.runs.open_session", giving(nullcontext()))
    monkeypatch.setattr(race_record, "record", recorded)
    monkeypatch.setattr("harness.tools.race.reproducer.Reproducer.check_kernel", lambda *_: None)
    file, report = tmp_path / "a.recording", tmp_path / "report.json"
    words = ["race", "record", "fork-stale-forward", "-o", str(file), "--json", str(report)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code
    assert file.exists()
    (text,) = json.loads(report.read_text())["results"]
    assert text["outcome"] == outcome
    assert [hit["message"] for hit in text["hits"]] == ([message] if shown else [])


@pytest.mark.parametrize(
    ("says", "ends", "message"),
    [
        (CONSOLE.replace(b"ready", b"reaDy"), "0", "differs from line 2 on"),
        (CONSOLE[:-1], "0", f"{len(CONSOLE) - 1} bytes instead of {len(CONSOLE)}"),
        (CONSOLE + b"more\n", "0", f"{len(CONSOLE) + 5} bytes instead of {len(CONSOLE)}"),
        (CONSOLE, "1", "QEMU ended the replay with code 1"),
    ],
    ids=["other", "shorter", "longer", "failed"],
)
def test_a_replay_that_differs_is_a_failure(
    file: Path, qemu: Path, says: bytes, ends: str, message: str
) -> None:
    """A console that is not the recorded one, or a failing QEMU, is exit code 3."""
    (qemu / "says").write_bytes(says)
    (qemu / "ends").write_text(ends)
    code, text = run_replay(file)
    assert code == ExitCode.HARNESS
    assert message in text


def test_gdb_gets_vmlinux_and_socket(file: Path, soon: Deadline) -> None:
    """The printed command finds vmlinux and the socket of the guest that waits."""
    note = read_note(file)
    sockets: list[Path] = []
    with unpacked(file, note) as folder:
        replay(folder, note, deadline=soon, debug=sockets.append)
        assert sockets == [folder / "gdb"]
        assert gdb_command(folder) == f"gdb {folder}/vmlinux -ex 'target remote {folder}/gdb'"
        assert (folder / "vmlinux").read_bytes() == MEMBERS["vmlinux"]


def test_without_vmlinux_there_is_nothing_for_gdb(tmp_path: Path) -> None:
    """A recording of a packaged kernel replays, and --gdb is refused."""
    members = members_in(tmp_path / "members", vmlinux=None)
    target = tmp_path / "packaged.recording"
    pack(target, note_of(members), members)  # type: ignore[arg-type]
    assert run_replay(target)[0] == ExitCode.HELD
    code, text = run_replay(target, "--gdb")
    assert code == ExitCode.USAGE
    assert "no vmlinux for gdb" in text


OTHER_QEMU = "QEMU emulator version 9.0.0"
NO_RECORDING = "is not a recording that this klp-harness can read"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"qemu": OTHER_QEMU}, f"was recorded by {OTHER_QEMU}, and this machine has {QEMU}"),
        ({"memory_mib": 512}, "starts QEMU in another way"),
        ({"kernel_args": ["pci=noacpi"]}, "starts QEMU in another way"),
        ({"format": 2}, NO_RECORDING),
        ({"files": {"../x": ""}}, NO_RECORDING),
        ({"unknown": 1}, NO_RECORDING),
        ({"seed": None}, NO_RECORDING),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_note_that_does_not_fit_is_refused(
    file: Path, fields: dict[str, object], message: str
) -> None:
    """A recording of another QEMU, or in another format, would replay to something else."""
    assert_refused(with_note(file, **fields), message)


def test_a_kernel_without_a_bzimage_is_started_as_vmlinux(tmp_path: Path) -> None:
    """The file then has its vmlinux once, and without it is damaged."""
    members = members_in(tmp_path / "members", bzImage=None)
    target = tmp_path / "a.recording"
    note = note_of(members)
    assert note.argv[note.argv.index("-kernel") + 1] == "FOLDER/vmlinux"
    pack(target, note, members)  # type: ignore[arg-type]
    assert run_replay(target)[0] == 0
    assert_refused(changed(target, "vmlinux", None), "is damaged: it has no vmlinux")


def test_a_kernel_is_given_the_words_it_was_recorded_with(file: Path) -> None:
    """A replay has the kernel arguments of the recording."""
    words = ("pci=noacpi",)
    assert run_replay(with_note(file, kernel_args=words, argv=argv_of(256, words, IMAGE)))[0] == 0
    assert words[0] in " ".join(argv_of(256, words, IMAGE)).split()


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        ("bzImage", b"x", "has another kernel than the one it was recorded with, which is 6.1.192"),
        ("vmlinux", b"x", "its vmlinux differs"),
        ("inputs", b"x", "is damaged: its inputs is not what was recorded"),
        ("initrd", b"x", "is damaged: its initrd is not what was recorded"),
        ("console.log", b"x", "is damaged: its console.log is not what was recorded"),
        ("bzImage", None, "is damaged: it has no bzImage"),
        ("inputs", None, "is damaged: it has no inputs"),
    ],
)
def test_a_part_that_differs_or_is_missing_is_refused(
    file: Path, member: str, data: bytes | None, message: str
) -> None:
    """Each part is compared by its digest before QEMU starts."""
    assert_refused(changed(file, member, data), message)


def test_flipped_bytes_are_damage(file: Path) -> None:
    """Of what is compressed as well, where the archive itself may notice."""
    whole = bytearray(file.read_bytes())
    at = whole.index(b"bzImage") + 10
    whole[at] ^= 0xFF
    file.write_bytes(bytes(whole))
    code, text = run_replay(file)
    assert code == ExitCode.USAGE
    assert "damaged" in text or "another kernel" in text


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"text"], ids=["empty", "torn", "text"])
def test_another_file_is_no_recording(tmp_path: Path, data: bytes) -> None:
    """A file that is no archive, or half of one, is named as such."""
    other = tmp_path / "other"
    other.write_bytes(data)
    assert_refused(other, NO_RECORDING)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A misspelt file name is wrong usage."""
    assert_refused(tmp_path / "none", "No such file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fork"], "names 3 reproducers"),
        (["nothing"], "no reproducer nothing"),
        (["going", "-o", "."], "is a directory"),
        (["going", "-o", "/nowhere/x"], "does not exist"),
    ],
)
def test_what_cannot_be_recorded_is_refused_at_once(arguments: list[str], message: str) -> None:
    """Wrong names and files are refused before a kernel is built."""
    result = CliRunner().invoke(app, ["race", "record", *arguments])
    assert result.exit_code == ExitCode.USAGE
    assert message in " ".join(result.output.split())


def test_a_race_of_many_cpus_is_not_recorded() -> None:
    """A recording has one CPU, so a race that needs four is refused."""

    @reproducer("many-cpus", rule="FO-02", cpus=4)
    def steps() -> None:
        """What needs four CPUs."""

    with pytest.raises(UsageError, match="needs 4 CPUs, and a recording has one"):
        require_one_cpu(steps)


def test_a_recording_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """An error of the file system is wrong usage, and no half file stays."""
    members = members_in(tmp_path / "members")
    target = tmp_path / "none" / "a.recording"
    with pytest.raises(UsageError, match="cannot write"):
        pack(target, note_of(members), members)  # type: ignore[arg-type]
    assert not target.parent.exists()


def test_equal_consoles_do_not_differ() -> None:
    """Equal consoles have no difference to report."""
    assert difference(CONSOLE, CONSOLE) is None


def test_a_replay_that_does_not_end_is_an_error(
    file: Path, qemu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A QEMU that hangs ends with the deadline."""
    from harness.deadline import Deadline

    program = qemu / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    note = read_note(file)
    with unpacked(file, note) as folder, pytest.raises(HarnessError, match="in time"):
        replay(folder, note, deadline=Deadline.after(0.3))
