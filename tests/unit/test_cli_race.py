# SPDX-License-Identifier: GPL-2.0-only
"""What klp-harness race tells of trials, and which exit code they give; no guest is needed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast
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
from harness.tools.race import command as command
from harness.tools.race.campaign import Extent, Tally, Trial
from harness.tools.race.catalogue import find_races
from harness.tools.race.results import RaceHit, RaceResult
from harness.tools.race.terminal import print_hit, print_race

if TYPE_CHECKING:
    from harness.errors import KlpError
    from harness.vm.kernel.kernel import Kernel

EXTENT = Extent(seed=5)


class KnownKernel:
    version = "6.1.192"


def judged(name: str, error: KlpError | None, *, excuse_expected: bool = False) -> RaceResult:
    """The result of one trial that ended with that error."""
    (race,) = find_races([name])
    kinds: dict[str, object] = {}
    if isinstance(error, RaceShown):
        kinds["shown"] = error
    elif isinstance(error, HarnessError):
        kinds["error"] = error
    elif error is not None:
        kinds["failed"] = error
    tally = Tally(race)
    tally.trials.append(Trial(race=race, seed=5, seconds=2.0, **kinds))  # type: ignore[arg-type]
    kernel = cast("Kernel", KnownKernel())
    return command._judge(tally, kernel, EXTENT, excuse_expected=excuse_expected)


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
def test_what_a_trial_comes_to(
    name: str, error: KlpError | None, outcome: CheckOutcome, code: ExitCode, tmp_path: Path
) -> None:
    """A race that is shown, expected or not, and any other failure of the kernel is exit 1."""
    result = judged(name, error)
    assert result.outcome is outcome
    junit = tmp_path / "race.xml"
    with Invocation("race run", ResultFiles(junit=str(junit))) as invocation:
        invocation.results.append(result)
    assert invocation.exit_code is code
    failures = ET.parse(junit).getroot().findall(".//failure")
    assert len(failures) == (code is ExitCode.VERDICT)


@pytest.mark.parametrize(
    ("name", "code"),
    [("exit-use-after-free", ExitCode.HELD), ("fork-stale-forward", ExitCode.VERDICT)],
)
def test_only_an_expected_race_can_be_excused(name: str, code: ExitCode, tmp_path: Path) -> None:
    result = judged(name, RaceShown("x"), excuse_expected=True)
    assert result.excused is result.expected is (code is ExitCode.HELD)
    junit = tmp_path / "race.xml"
    with Invocation("race run", ResultFiles(junit=str(junit))) as invocation:
        invocation.results.append(result)
    assert invocation.exit_code is code
    failures = ET.parse(junit).getroot().findall(".//failure")
    assert len(failures) == (code is ExitCode.VERDICT)


@pytest.mark.parametrize(("version", "folder"), [("6.1.192", "kernel-mutants"), ("6.12.1", "6.12")])
def test_a_mutant_is_found_by_its_name(
    version: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the form that is written for the kernel's series, before the patches that were given."""
    clean = SimpleNamespace(version=version)
    monkeypatch.setattr(prepare, "obtain_kernel", lambda *_, **__: clean)
    given = KernelOptions(spec="x", patches=(Path("own.patch"),))
    asked = prepare.with_mutants(Terminal(), given, ["fork-race-747f7a29"])
    path, own = asked.patches
    assert (path.name, path.parent.name) == ("fork-race-747f7a29.patch", folder)
    assert path.is_file()
    assert own == Path("own.patch")
    assert prepare.with_mutants(Terminal(), given, ()) is given


def test_an_unknown_mutant_is_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["race", "run", "fork", "--mutant", "fork-race"])
    assert done.exit_code == ExitCode.USAGE
    assert "there is no kernel mutant fork-race" in done.output


def told(result: RaceResult) -> str:
    stream = io.StringIO()
    print_race(Terminal(stdout=stream, stderr=stream), result)
    return " ".join(stream.getvalue().split())


def test_an_expected_race_is_told_with_what_is_known() -> None:
    words = told(judged("exit-use-after-free", RaceShown("x")))
    assert "shown in 1 of 1 trial; expected: use after free" in words


def test_a_race_that_is_news_names_its_rule() -> None:
    words = told(judged("fork-stale-forward", RaceShown("x")))
    assert "this kernel breaks FO-03" in words


def test_an_expected_race_that_stays_away_is_worth_a_word() -> None:
    assert "although expected" in told(judged("exit-use-after-free", None))


def test_many_trials_come_with_their_confidence() -> None:
    result = judged("fork-stale-forward", None).model_copy(
        update={"trials": 20, "low": 0.0, "high": 0.161}
    )
    assert "not shown in 20 trials" in told(result)
    assert "95 % confidence: 0 % to 16 %" in told(result)


def test_a_hit_says_how_to_see_it_again() -> None:
    stream = io.StringIO()
    hit = RaceHit(
        seed=42, seconds=3.0, message="it is there", details=tuple("abcdefghijklmnop"), logs="/x"
    )
    print_hit(Terminal(stdout=stream, stderr=stream), "a-race", hit)
    assert "again with --seed 42" in stream.getvalue()
    assert "(4 more lines)" in stream.getvalue()
    assert "logs: /x" in stream.getvalue()


def test_the_list_as_json() -> None:
    done = CliRunner().invoke(app, ["race", "list", "--json", "-", "exit"])
    assert done.exit_code == 0
    (result,) = json.loads(done.stdout)["results"]
    assert (result["id"], result["outcome"]) == ("exit-use-after-free", "not-run")
    assert result["rule"] == "FO-06"
    assert result["expected"] is True
    assert "use after free" in result["known"]


def test_an_unknown_name_is_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["race", "list", "nothing"])
    assert done.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("place", [("--workers", "2"), ("--cluster", "tcp://127.0.0.1:1")])
def test_steps_are_for_guests_here(place: tuple[str, str]) -> None:
    """A worker would take the steps of the seed, and nobody would know."""
    done = CliRunner().invoke(app, ["race", "run", "fuzz", "--steps", "load gate", *place])
    assert done.exit_code == ExitCode.USAGE
    assert "--steps is for guests of this process" in done.stderr
