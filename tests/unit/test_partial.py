# SPDX-License-Identifier: GPL-2.0-only
"""A command that does not finish: what it has is written, and nobody takes it for all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from harness.cli.exits import Terminated
from harness.cli.invocation import Invocation, write_file
from harness.cli.options import ResultFiles
from harness.errors import HarnessError, KernelSplat, KlpError, NoSpace, UsageError
from harness.report.base import CheckOutcome
from harness.report.html import render
from harness.report.junit import mark_partial
from harness.tools.doctor.results import DoctorResult

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = DoctorResult(id="x", outcome=CheckOutcome.FAILED, seconds=0.0, detail="no")


def files_in(folder: Path) -> ResultFiles:
    return ResultFiles(
        json=str(folder / "a.json"), junit=str(folder / "a.xml"), ktap=str(folder / "a.ktap")
    )


def run(files: ResultFiles, error: BaseException | None, ends: list[bool]) -> None:
    with Invocation("doctor", files) as invocation:
        invocation.at_end(ends.append)
        invocation.results.append(FAILED)
        if error is not None:
            raise error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), Terminated(), HarnessError("no"), KernelSplat("W"), None]
)
def test_a_part_is_written_as_a_part(
    tmp_path: Path, error: BaseException | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """In every file, also beside a result that failed; summary and page are made all the same."""
    ends: list[bool] = []
    if error is None:
        run(files_in(tmp_path), None, ends)
    else:
        with pytest.raises(type(error)):
            run(files_in(tmp_path), error, ends)
    is_partial = error is not None
    assert ends == [is_partial]
    data = json.loads((tmp_path / "a.json").read_text())
    assert (data["partial"], len(data["results"])) == (is_partial, 1)
    suite = ET.parse(tmp_path / "a.xml").getroot()[0]
    names = [case.get("name") for case in suite.iter("testcase")]
    assert names == (["x", "command"] if is_partial else ["x"])
    assert ("partial" in (tmp_path / "a.ktap").read_text()) == is_partial
    assert ("not ok 2 command # ERROR" in (tmp_path / "a.ktap").read_text()) == is_partial
    assert ("partial: 1 result;" in capsys.readouterr().err) == is_partial


def test_a_closed_pipe_needs_no_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`| head` has read what was wanted; a file of results says that it is a part."""
    with pytest.raises(BrokenPipeError):
        run(files_in(tmp_path), BrokenPipeError(), [])
    assert capsys.readouterr().err == ""
    assert json.loads((tmp_path / "a.json").read_text())["partial"]


def test_a_page_says_it(tmp_path: Path) -> None:
    """Every page is made from one template, which has the word."""
    for partial in (True, False):
        page = render("base.html.j2", "harness.report", partial=partial)
        assert ("Partial: the command did not finish" in page) == partial


def test_the_junit_file_of_pytest_is_marked(tmp_path: Path) -> None:
    """pytest writes its own at an interrupt too, and it would look complete."""
    path = tmp_path / "a.xml"
    path.write_text(
        '<testsuites><testsuite name="pytest" tests="1" errors="0"><testcase name="a"/>'
        "</testsuite></testsuites>"
    )
    text = mark_partial(path, "interrupted")
    assert text is not None
    suite = ET.fromstring(text.encode())[0]
    assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
    assert suite[1][0].get("message") == "interrupted"
    assert mark_partial(tmp_path / "none.xml", "interrupted") is None


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EIO, HarnessError),
        (errno.EROFS, UsageError),
        (errno.EACCES, UsageError),
    ],
)
def test_a_file_that_cannot_be_written(
    tmp_path: Path, number: int, kind: type[KlpError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence by whose fault it is; the other files are written, and nothing is left behind."""
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise OSError(number, os.strerror(number))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(kind):
        run(files_in(tmp_path), None, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ktap", "a.xml"]


@pytest.mark.parametrize(
    ("error", "ends_with", "said"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, ["no space left"]),
        (UsageError("wrong"), UsageError, ["no space left"]),
        (KernelSplat("W"), NoSpace, ["no space left", "error: W"]),
    ],
)
def test_two_errors_are_both_said(
    error: BaseException,
    ends_with: type[BaseException],
    said: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What ended the command is not lost by a full disk; a verdict without its results is none."""
    with pytest.raises(ends_with):
        run(ResultFiles(json="/dev/full"), error, [])
    shown = capsys.readouterr().err
    assert all(text in shown for text in said)


def test_a_file_is_replaced_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader never finds half of it: not with the longest name, a link, or no room."""
    path = tmp_path / ("x" * 250 + ".json")
    write_file(path, "one")
    link = tmp_path / "link"
    link.symlink_to(path)
    write_file(link, "two")
    assert link.is_symlink()
    assert path.read_text() == "two"

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NoSpace):
        write_file(path, "three")
    assert path.read_text() == "two"


def test_a_file_in_a_folder_that_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is mounted into a container: it is written in place, and not lost."""
    path = tmp_path / "a.json"
    path.touch()

    def busy(self: Path, target: Path) -> Any:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "replace", busy)
    write_file(path, "text \udcff")
    assert path.read_text() == "text \\udcff"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
