# SPDX-License-Identifier: GPL-2.0-only
"""Folders that are missing, closed, read-only or no folders: a sentence, and doctor says so too."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.exits import guarded
from harness.errors import ExitCode, HarnessError, NoSpace, UsageError
from harness.report.base import CheckOutcome
from harness.resources import cache_root, runs_root
from harness.tools.doctor.examine import free_mib, judge_folder
from harness.vm.guest import runs
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.deadline import Deadline


def refuse(number: int) -> Callable[..., NoReturn]:
    """What the file system does with that error number; root gets no other refusal."""

    def raises(path: object, *_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number), str(path))

    return raises


@pytest.mark.parametrize("variable", ["KLP_HARNESS_CACHE", "KLP_HARNESS_RUNS"])
@pytest.mark.parametrize("inner", ["", "/below"])
def test_a_file_in_place_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soon: Deadline, variable: str, inner: str
) -> None:
    """A variable that names a file, or a folder below one, ends in a sentence with its name."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, f"{tmp_path}/file{inner}")
    uses: dict[str, Callable[[], object]] = {
        "KLP_HARNESS_CACHE": lambda: runs.store().obtain(
            "kind", "key", lambda _: None, deadline=soon
        ),
        "KLP_HARNESS_RUNS": lambda: runs.make_folder("name"),
    }
    with pytest.raises((UsageError, HarnessError), match="file"):
        uses[variable]()


@pytest.mark.parametrize("sign", [" ", "\n", '"', "'", ":", "$", "#", "\\", ",", "\udcff"])
def test_a_cache_where_nothing_can_be_built(monkeypatch: pytest.MonkeyPatch, sign: str) -> None:
    """The kernel's Makefile, gcc and apt read these signs as something else."""
    monkeypatch.setenv("KLP_HARNESS_CACHE", f"/tmp/a{sign}b")
    with pytest.raises(UsageError, match="the cache cannot be in /tmp/a") as raised:
        cache_root()
    assert raised.value.message.isprintable()


@pytest.mark.parametrize("sign", [",", '"', "\n", "\udcff"])
def test_a_runs_folder_that_qemu_cannot_name(monkeypatch: pytest.MonkeyPatch, sign: str) -> None:
    """QEMU splits its options at commas."""
    monkeypatch.setenv("KLP_HARNESS_RUNS", f"/tmp/a{sign}b")
    with pytest.raises(UsageError, match="the runs folder cannot be in /tmp/a"):
        runs_root()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOSPC])
def test_folders_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, soon: Deadline, number: int
) -> None:
    """HOME=/nonexistent, a read-only disk, a closed folder: the harness or host failed, 3."""
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path / "r"))
    monkeypatch.setattr(Path, "mkdir", refuse(number))
    kind = NoSpace if number == errno.ENOSPC else HarnessError
    with pytest.raises(kind):
        runs.store().obtain("kind", "key", lambda _: None, deadline=soon)
    with pytest.raises(kind, match="the folder of this run"):
        runs.make_folder("name")


def test_no_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /tmp, and a TMPDIR that is not there."""
    monkeypatch.setattr(tempfile, "mkdtemp", refuse(errno.ENOENT))
    with pytest.raises(HarnessError, match="no temporary folder") as raised, temporary_folder("a"):
        pass
    assert raised.value.hint is not None
    assert "TMPDIR" in raised.value.hint


def test_doctor_looks_by_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is there and cannot be written to is MISSING; nothing is left in a good one."""
    good = judge_folder("cache", lambda: tmp_path / "new", "hint")
    assert good.outcome is CheckOutcome.PASSED
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    assert judge_folder("x", lambda: tmp_path / "file/a", "hint").outcome is CheckOutcome.FAILED
    monkeypatch.setenv("KLP_HARNESS_CACHE", "/tmp/a b")
    refused = judge_folder("cache", cache_root, "hint")
    assert (refused.outcome, "the cache cannot be in" in refused.detail) == (
        CheckOutcome.FAILED,
        True,
    )
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", lambda **_: refuse(errno.EROFS)("/x"))
    bad = judge_folder("runs", lambda: tmp_path, "KLP_HARNESS_RUNS names another folder for it")
    assert (bad.outcome, bad.detail) == (
        CheckOutcome.FAILED,
        "cannot be written (/x): Read-only file system",
    )


def test_free_space_below_a_file(tmp_path: Path) -> None:
    """The nearest place that can be asked counts."""
    (tmp_path / "file").touch()
    assert free_mib(tmp_path / "file/a/b") > 0


@pytest.mark.parametrize("variable", ["KLP_HARNESS_CACHE", "KLP_HARNESS_RUNS", "TMPDIR"])
def test_doctor_is_not_ready_where_a_run_would_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """13 forms ended as a bug while doctor said ready."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    if variable == "TMPDIR":
        monkeypatch.setattr(tempfile, "gettempdir", lambda: refuse(errno.ENOENT)("/tmp"))
    result = CliRunner().invoke(app, ["doctor", "--accel", "tcg"], prog_name="klp-harness")
    assert result.exit_code == ExitCode.HARNESS, result.output
    assert "not ready" in result.output
    assert "bug" not in result.output


@pytest.mark.parametrize("words", [["kernel", "list"], ["kernel", "prune"], ["kernel", "build"]])
def test_commands_with_a_file_as_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """Each names the folder and the variable."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(tmp_path / "file"))
    result = CliRunner().invoke(app, words, prog_name="klp-harness")
    assert result.exit_code == ExitCode.USAGE, result.output
    assert "KLP_HARNESS_CACHE" in result.output


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTDIR, errno.EROFS, errno.EMFILE])
def test_what_the_host_refuses_anywhere_is_no_bug(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An error of the file system that nothing foresaw is still the host's: 3, with the file."""
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path))
    alone = typer.Typer(add_completion=False)

    @alone.command()
    @guarded
    def fail() -> int:
        refuse(number)("/some/file")

    result = CliRunner().invoke(alone, [])
    assert result.exit_code == ExitCode.HARNESS
    assert f"the host refuses: /some/file: {os.strerror(number)}" in result.output
    assert "bug" not in result.output


def test_a_bug_is_reported_without_a_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of a bug has nowhere to go: it is printed, and the command still ends with 3."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path / "file"))
    alone = typer.Typer(add_completion=False)

    @alone.command()
    @guarded
    def fail() -> int:
        raise ZeroDivisionError

    result = CliRunner().invoke(alone, [])
    assert result.exit_code == ExitCode.HARNESS
    assert "its traceback cannot be written" in result.output
