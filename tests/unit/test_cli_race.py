# SPDX-License-Identifier: GPL-2.0-only
"""What klp-harness race prints of trials, and their exit codes; no guest is needed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from harness.cli import prepare
from harness.cli.app import app
from harness.cli.invocation import Invocation
from harness.cli.options import KernelOptions, ResultFiles
from harness.errors import ExitCode, GuestHang, HarnessError, RaceShown
from harness.report.base import CheckOutcome
from harness.report.terminal import Terminal
from harness.tools.race.campaign import Extent, ReproducerTrials, Trial
from harness.tools.race.catalogue import find_races
from harness.tools.race.results import RaceHit, RaceResult
from harness.tools.race.terminal import print_hit, print_race
from harness.tools.race.trial_results import judge

if TYPE_CHECKING:
    from harness.errors import KernelVerdict

EXTENT = Extent(seed=5)


def judged(
    name: str, error: KernelVerdict | HarnessError | None, *, excuse_expected: bool = False
) -> RaceResult:
    """The result of one trial that ended with that error."""
    (race,) = find_races([name])
    trial = Trial(race=race, seed=5, seconds=2.0, ended_by=error)
    found = ReproducerTrials(race, [trial])
    return judge(found, "6.1.192", EXTENT, excuse_expected=excuse_expected)


def failures_and_exit_code(result: RaceResult, junit: Path) -> tuple[int, ExitCode]:
    """How many failures the JUnit file has, and the exit code of the command."""
    with Invocation("race run", ResultFiles(junit=str(junit))) as invocation:
        invocation.results.append(result)
    return len(ET.parse(junit).getroot().findall(".//failure")), invocation.exit_code


@pytest.mark.parametrize(
    ("name", "error", "outcome", "code"),
    [
        ("fork-stale-forward", None, CheckOutcome.NOT_SHOWN, ExitCode.HELD),
        ("fork-stale-forward", RaceShown("x"), CheckOutcome.SHOWN, ExitCode.VERDICT),
        ("fork-stale-forward", GuestHang("x"), CheckOutcome.FAILED, ExitCode.VERDICT),
        ("fork-stale-forward", HarnessError("x"), CheckOutcome.ERROR, ExitCode.HARNESS),
        ("exit-use-after-free", RaceShown("x"), CheckOutcome.SHOWN, ExitCode.VERDICT),
        ("exit-use-after-free", None, CheckOutcome.NOT_SHOWN, ExitCode.HELD),
    ],
)
def test_the_outcome_of_a_trial(
    name: str,
    error: KernelVerdict | HarnessError | None,
    outcome: CheckOutcome,
    code: ExitCode,
    tmp_path: Path,
) -> None:
    """A race that is shown, expected or not, and any other failure of the kernel is exit 1."""
    result = judged(name, error)
    assert result.outcome is outcome
    expected = (int(code is ExitCode.VERDICT), code)
    assert failures_and_exit_code(result, tmp_path / "race.xml") == expected


@pytest.mark.parametrize(
    ("name", "code"),
    [("exit-use-after-free", ExitCode.HELD), ("fork-stale-forward", ExitCode.VERDICT)],
)
def test_only_an_expected_race_can_be_excused(name: str, code: ExitCode, tmp_path: Path) -> None:
    """--excuse-expected lets a race pass that is known of the kernel, and no other."""
    result = judged(name, RaceShown("x"), excuse_expected=True)
    assert result.excused is result.expected is (code is ExitCode.HELD)
    expected = (int(code is ExitCode.VERDICT), code)
    assert failures_and_exit_code(result, tmp_path / "race.xml") == expected


@pytest.mark.parametrize(("version", "folder"), [("6.1.192", "kernel-mutants"), ("6.12.1", "6.12")])
def test_a_mutant_is_found_by_its_name(
    version: str, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the form that is written for the kernel's series, before the patches that were given."""
    clean = SimpleNamespace(version=version)
    monkeypatch.setattr(prepare, "obtain_kernel", lambda *_, **__: clean)
    mine = tmp_path / "own.patch"
    mine.write_text("--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n-a\n+b\n")
    given = KernelOptions(patches=(mine,))
    asked = prepare.with_mutants(Terminal(), given, ["fork-race-747f7a29"])
    path, own = asked.patches
    assert (path.name, path.parent.name) == ("fork-race-747f7a29.patch", folder)
    assert path.is_file()
    assert own == mine
    assert prepare.with_mutants(Terminal(), given, ()) is given


def test_an_unknown_mutant_is_wrong_usage() -> None:
    """A misspelt mutant is refused before anything is built."""
    done = CliRunner().invoke(app, ["race", "run", "fork", "--mutant", "fork-race"])
    assert done.exit_code == ExitCode.USAGE
    assert "there is no kernel mutant fork-race" in done.output


def printed(result: RaceResult) -> str:
    stream = io.StringIO()
    print_race(Terminal(stdout=stream, stderr=stream), result)
    return " ".join(stream.getvalue().split())


def test_an_expected_race_is_printed_with_what_is_known() -> None:
    """The line says that the race is expected, and why."""
    words = printed(judged("exit-use-after-free", RaceShown("x")))
    assert "shown in 1 of 1 trial; expected: use after free" in words


def test_a_race_that_is_news_names_its_rule() -> None:
    """The line of an unexpected race names the rule that the kernel breaks."""
    words = printed(judged("fork-stale-forward", RaceShown("x")))
    assert "this kernel breaks FO-03" in words


def test_an_expected_race_that_is_not_shown_is_reported() -> None:
    """A kernel that no longer has a known race does not go unnoticed."""
    assert "although expected" in printed(judged("exit-use-after-free", None))


def test_many_trials_come_with_their_confidence() -> None:
    """The rate of many trials is printed with its confidence interval."""
    result = judged("fork-stale-forward", None).model_copy(
        update={"trials": 20, "low": 0.0, "high": 0.161}
    )
    assert "not shown in 20 trials" in printed(result)
    assert "95 % confidence: 0 % to 16 %" in printed(result)


def test_a_hit_says_how_to_see_it_again() -> None:
    """A hit has its seed, its logs, and the first lines of the splat."""
    stream = io.StringIO()
    hit = RaceHit(
        seed=42, seconds=3.0, message="it is there", details=tuple("abcdefghijklmnop"), logs="/x"
    )
    print_hit(Terminal(stdout=stream, stderr=stream), "a-race", hit)
    assert "repeat it with --seed 42" in stream.getvalue()
    assert "(4 more lines)" in stream.getvalue()
    assert "logs: /x" in stream.getvalue()


def test_the_list_as_json() -> None:
    """Scripts find rule and known facts of a reproducer in the JSON report."""
    done = CliRunner().invoke(app, ["race", "list", "--json", "-", "exit-use-after-free"])
    assert done.exit_code == 0
    (result,) = json.loads(done.stdout)["results"]
    assert (result["id"], result["outcome"]) == ("exit-use-after-free", "not-run")
    assert result["rule"] == "FO-06"
    assert result["expected"] is True
    assert "use after free" in result["known"]


def test_an_unknown_name_is_wrong_usage() -> None:
    """A misspelt reproducer gives exit code 2."""
    done = CliRunner().invoke(app, ["race", "list", "nothing"])
    assert done.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("place", [("--workers", "2"), ("--cluster", "tcp://127.0.0.1:1")])
def test_steps_are_for_guests_here(place: tuple[str, str]) -> None:
    """A worker would take the steps of the seed, and nobody would know."""
    done = CliRunner().invoke(app, ["race", "run", "fuzz", "--steps", "load gate", *place])
    assert done.exit_code == ExitCode.USAGE
    assert "--steps is for guests of this process" in done.stderr
