# SPDX-License-Identifier: GPL-2.0-only
"""How commands end: exit codes, sentences instead of tracebacks, the files of results."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.exits import Terminated, guarded
from harness.cli.invocation import Invocation
from harness.cli.options import ResultFiles
from harness.errors import (
    ExitCode,
    HarnessError,
    KernelSplat,
    KlpError,
    MissingTool,
    NoSpace,
    TransitionTimeout,
    UsageError,
)
from harness.report.base import CheckOutcome
from harness.tools.doctor.results import DoctorResult

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def private_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of made-up bugs do not go to the user's own folder."""
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path / "runs"))


def ended(body: Callable[[], ExitCode], *args: str) -> Any:
    """Run a command with that body and return how it ended."""
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command()
    @guarded
    def command(number: int = 0) -> ExitCode:
        return body()

    return CliRunner().invoke(app, list(args))


def raises(error: BaseException) -> Callable[[], ExitCode]:
    def body() -> ExitCode:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("unknown kernel 'x'"), 2),
        (HarnessError("no"), 3),
        (MissingTool("no gcc"), 3),
        (KernelSplat("WARNING"), 1),
        (TransitionTimeout("blocked"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: KlpError, code: int) -> None:
    """1 accuses the kernel, 2 the usage, 3 the harness; none of them shows a traceback."""
    result = ended(raises(error))
    assert result.exit_code == code
    assert result.stderr == f"error: {error.message}\n"
    assert result.stdout == ""


def test_a_command_returns_its_own_code() -> None:
    """What a command returns is what the shell sees."""
    assert ended(lambda: ExitCode.HELD).exit_code == 0
    assert ended(lambda: ExitCode.VERDICT).exit_code == 1


def test_wrong_option_is_usage() -> None:
    """An unknown option and a value of the wrong type are exit code 2."""
    assert ended(lambda: ExitCode.HELD, "--no-such-option").exit_code == 2
    assert ended(lambda: ExitCode.HELD, "--number", "many").exit_code == 2
    assert ended(raises(typer.BadParameter("no"))).exit_code == 2


def test_bug_is_one_sentence_and_a_log(tmp_path: Path) -> None:
    """What nobody foresaw is called a bug; its traceback is in the file that is named."""
    result = ended(raises(ZeroDivisionError("by\nzero")))
    assert result.exit_code == 3
    sentence, where = result.stderr.splitlines()
    assert sentence == "error: this is a bug in klp-harness: ZeroDivisionError: by"
    (log,) = (tmp_path / "runs").iterdir()
    assert str(log) in where
    assert "Traceback" in log.read_text()
    assert "Traceback" not in result.output


def test_bug_without_a_place_for_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log cannot be written the traceback is not lost."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(blocker / "runs"))
    result = ended(raises(ZeroDivisionError("x")))
    assert result.exit_code == 3
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("interrupt", "code", "word"),
    [(KeyboardInterrupt(), 130, "interrupted"), (Terminated(), 143, "terminated")],
)
def test_interrupt_is_one_line(
    interrupt: KeyboardInterrupt, code: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C and SIGTERM end a command with a line and the code that a shell expects."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    result = ended(raises(interrupt))
    assert result.exit_code == code
    assert result.stderr.strip() == f"klp-harness: {word}"


def test_json_is_written_when_the_command_fails(tmp_path: Path) -> None:
    """A program that reads the results learns of the failure, with what was found before."""
    path = tmp_path / "out.json"

    def body() -> ExitCode:
        with Invocation("doctor", ResultFiles(json=str(path))) as invocation:
            invocation.results.append(
                DoctorResult(id="gcc", outcome=CheckOutcome.PASSED, seconds=0.0, detail="12")
            )
            raise KernelSplat("WARNING: x", details=("line",), artefacts=Path("/runs/1"))

    assert ended(body).exit_code == 1
    data = json.loads(path.read_text())
    assert data["outcome"] == "failed"
    assert [result["id"] for result in data["results"]] == ["gcc"]
    assert data["error"] == {
        "kind": "KernelSplat",
        "fault": "kernel",
        "message": "WARNING: x",
        "hint": None,
        "details": ["line"],
        "logs": "/runs/1",
    }


def test_json_alone_on_standard_output() -> None:
    """--json - : standard output parses as JSON whatever else was printed."""

    def body() -> ExitCode:
        with Invocation("doctor", ResultFiles(json="-")) as invocation:
            invocation.terminal.print("for a person")
            sys.stdout.write("from a library\n")
        return invocation.exit_code

    result = ended(body)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["command"] == "doctor"
    assert result.stderr == "for a person\nfrom a library\n"


def test_interrupted_command_still_writes_its_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted run is an error in its JSON, and no verdict."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    path = tmp_path / "out.json"

    def body() -> ExitCode:
        with Invocation("doctor", ResultFiles(json=str(path))):
            raise KeyboardInterrupt

    assert ended(body).exit_code == 130
    data = json.loads(path.read_text())
    assert (data["outcome"], data["error"]["fault"]) == ("error", "interrupted")


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([CheckOutcome.PASSED, CheckOutcome.WARNED], 0),
        ([CheckOutcome.PASSED, CheckOutcome.ERROR], 3),
        ([CheckOutcome.ERROR, CheckOutcome.FAILED], 1),
        ([], 0),
    ],
)
def test_exit_code_of_results(outcomes: list[CheckOutcome], code: int) -> None:
    """One failed result fails the command; a warning does not."""

    def body() -> ExitCode:
        with Invocation("doctor") as invocation:
            invocation.results += [
                DoctorResult(id="x", outcome=outcome, seconds=0.0, detail="")
                for outcome in outcomes
            ]
        return invocation.exit_code

    assert ended(body).exit_code == code


def test_unwritable_results_are_refused_before_the_work(tmp_path: Path) -> None:
    """A mistyped folder is noticed at once and not after ten minutes of tests."""
    worked: list[bool] = []

    def body(path: str) -> Callable[[], ExitCode]:
        def inner() -> ExitCode:
            with Invocation("doctor", ResultFiles(json=path)):
                worked.append(True)
            return ExitCode.HELD

        return inner

    for path in (tmp_path, tmp_path / "missing" / "out.json"):
        assert ended(body(str(path))).exit_code == 2
    assert not worked


def test_disk_full_is_no_space(tmp_path: Path) -> None:
    """A full disk under the result file is the host's fault."""

    def body() -> ExitCode:
        with Invocation("doctor", ResultFiles(json="/dev/full")):
            pass
        return ExitCode.HELD

    result = ended(body)
    assert result.exit_code == NoSpace.exit_code == 3
    assert "no space left" in result.stderr
