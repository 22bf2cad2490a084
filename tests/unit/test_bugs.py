# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue of bugs: reports, rules and fixes that belong together, and what `bugs` prints."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.behaviours.table import Expectation, Expected, Rule
from harness.cli.app import app
from harness.errors import HarnessError, UsageError
from harness.resources import Resource
from harness.tools.race import bugs, bugs_command
from harness.tools.race.bugs import load_bugs
from harness.tools.race.catalogue import find_races, known_of
from harness.tools.race.results import BugOnSeries, BugsReport, BugState

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
FORCED = "forced-flag-too-narrow"


def test_each_race_that_is_expected_now_is_in_the_catalogue() -> None:
    """A kernel of the newest series that is expected to show a race has a report about it."""
    newest = {race.name for race in find_races(()) if known_of(race, "7.2.13")}
    reports = [bug.report for bug in load_bugs()]
    named = {name for name in newest if any(name in report for report in reports)}
    named |= {bug.name for bug in load_bugs()}
    assert newest
    assert newest <= named


@pytest.mark.parametrize("bug", load_bugs(), ids=lambda bug: bug.name)
def test_a_report_is_whole(bug: bugs.Bug) -> None:
    """A title, the command that shows it, the table of kernels, how it happens, impact and fix."""
    assert bug.title
    group = bug.name.partition("-")[0]
    assert re.search(rf"klp-harness race run {group}(-|\s)", bug.report)
    for heading in ("What happens", "Impact"):
        assert f"\n## {heading}" in bug.report, heading
    assert any(on.state is BugState.SHOWN for on in bug.series)
    for on in bug.series:
        if on.state is BugState.SHOWN:
            assert f"\n| {on.series}." in bug.report, f"no kernel of {on.series} in its table"


@pytest.mark.parametrize("bug", load_bugs(), ids=lambda bug: bug.name)
def test_a_bug_that_an_option_shows_has_the_fragment_with_it(bug: bugs.Bug) -> None:
    """The commands that `bugs NAME` prints build the kernel on which it is shown."""
    needed = {on.only for on in bug.series if on.only}
    assert bool(needed) == (bug.race.fragment is not None)
    shown = CliRunner().invoke(app, ["bugs", bug.name]).stdout.partition("\n\n#")[0]
    commands = [line for line in shown.splitlines() if "race run" in line]
    assert commands
    for command in commands:
        assert (f"--kernel-config {bug.race.fragment}" in command) == bool(needed)


def test_the_index_names_each_report() -> None:
    """With its title, in the order of the command."""
    index = (ROOT / "docs" / "bugs" / "README.md").read_text().splitlines()
    entries = [f"- [`{bug.name}`]({bug.name}.md): {bug.title}" for bug in load_bugs()]
    assert [line for line in index if line.startswith("- [`")] == entries


def test_the_states_are_those_of_the_table() -> None:
    """By series; the newest that has it is the one on which it is to be shown."""
    (bug,) = load_bugs([FORCED])
    assert {on.series: on.state for on in bug.series} == {
        "5.10": BugState.HOLDS,
        "6.1": BugState.SHOWN,
        "6.12": BugState.SHOWN,
        "7.2": BugState.SHOWN,
    }
    assert bug.newest is bug.series[-1]
    assert [fix.series for fix in bug.fixes] == [("6.1",), ("6.12", "7.2")]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Expected.EXPECTED_FAILURE, BugState.SHOWN),
        (Expected.NOT_APPLICABLE, BugState.NOT_APPLICABLE),
    ],
)
def test_what_an_expectation_says(outcome: Expected, state: BugState) -> None:
    """Its state, its reason, and the options on which that depends; on its series alone."""
    expected = Expectation(
        series=("6.1",), outcome=outcome, why="because", unless="TASKS_RCU", only="KASAN"
    )
    rule = Rule(id="XX-01", holds="it holds", source=(), public=(), expect=(expected,))
    on = bugs._on(rule, "6.1")
    assert (on.state, on.why, on.without, on.only) == (state, "because", "TASKS_RCU", "KASAN")
    assert bugs._on(rule, "6.12").state is BugState.HOLDS


def test_the_table_is_printed() -> None:
    """One row for each bug, a column for each series, and the way to a report."""
    ran = CliRunner().invoke(app, ["bugs"])
    assert ran.exit_code == 0, ran.output
    row = rf"^{FORCED} .* holds +shown +shown +shown +FC-08 +yes *$"
    assert re.search(row, ran.output, re.MULTILINE), ran.output
    for bug in load_bugs():
        assert f"\n{bug.name} " in ran.output


def test_a_bug_that_needs_an_option() -> None:
    """The list marks it, and the bug's own page names the option."""
    on = BugOnSeries(series="6.1", state=BugState.SHOWN, only="KASAN")
    assert bugs_command._short(on) == "shown*"
    assert bugs_command._state(on) == "shown with CONFIG_KASAN"
    without = BugOnSeries(series="6.1", state=BugState.SHOWN, without="TASKS_RCU")
    assert bugs_command._short(without) == "shown*"
    assert bugs_command._state(without) == "shown without CONFIG_TASKS_RCU"


def test_one_bug_is_printed_with_its_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands can be run from any folder: a fix is named as a file that is there."""
    for folder, prefix in ((ROOT, "kernel-fixes"), (tmp_path, str(ROOT / "kernel-fixes"))):
        monkeypatch.chdir(folder)
        ran = CliRunner().invoke(app, ["bugs", FORCED])
        assert ran.exit_code == 0, ran.output
        command = f"klp-harness race run {FORCED} --kernel"
        assert f"  {command} newest\n" in ran.output
        assert f"  {command} 6.1 --patch {prefix}/{FORCED}.patch\n" in ran.output
        assert f"  {command} newest --patch {prefix}/6.12/{FORCED}.patch\n" in ran.output
        assert "## Impact" in ran.output
        assert "SPDX" not in ran.output


def test_the_result_for_machines() -> None:
    """The same, as a report that its schema takes."""
    ran = CliRunner().invoke(app, ["bugs", FORCED, "--json", "-"])
    report = BugsReport.model_validate(json.loads(ran.stdout))
    (result,) = report.results
    assert result.id == FORCED
    assert result.report == f"docs/bugs/{FORCED}.md"
    assert (ROOT / result.report).is_file()
    assert [on.state.value for on in result.kernels] == ["holds", "shown", "shown", "shown"]
    assert all((ROOT / fix.file).is_file() for fix in result.fixes)


def test_an_unknown_name() -> None:
    """The known ones are named."""
    with pytest.raises(UsageError, match="there is no bug nothing") as raised:
        load_bugs(["nothing"])
    assert FORCED in str(raised.value.hint)


def test_a_report_without_a_reproducer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a fault of the installation, and said."""
    (tmp_path / "nothing.md").write_text("# Nothing\n")

    def folder(resource: Resource) -> Path:
        return tmp_path if resource is Resource.BUG_REPORTS else ROOT / resource.value

    monkeypatch.setattr(bugs, "resource_dir", folder)
    with pytest.raises(HarnessError, match="have no reproducer: nothing"):
        load_bugs()


def test_no_bug_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list without entries is printed, and is no error."""

    def folder(resource: Resource) -> Path:
        return tmp_path if resource is Resource.BUG_REPORTS else ROOT / resource.value

    monkeypatch.setattr(bugs, "resource_dir", folder)
    ran = CliRunner().invoke(app, ["bugs"])
    assert ran.exit_code == 0
    assert "0 bugs" in ran.output


def test_each_report_has_its_picture() -> None:
    """Drawn from the table below "What happens", and drawn anew after each change of that."""
    draw = runpy.run_path(str(ROOT / ".ci" / "bug_pictures.py"))["picture"]
    pictures = {path.stem: path.read_text() for path in (ROOT / "docs/images/bugs").iterdir()}
    reports = {bug.name: bug.report for bug in load_bugs()}
    assert pictures == {name: draw(report) for name, report in reports.items()}, (
        "run: .venv/bin/python .ci/bug_pictures.py docs/bugs docs/images/bugs"
    )
    for name, report in reports.items():
        assert f"](../images/bugs/{name}.svg)" in report


def test_a_picture_has_every_step_once() -> None:
    """Equal cells below each other are one step; the last row is where the bug shows."""
    draw = runpy.run_path(str(ROOT / ".ci" / "bug_pictures.py"))
    report = "# T\n\n## What happens\n\n| a | b |\n|---|---|\n| x | |\n| y | z |\n| | z |\n"
    actors, rows = draw["read_table"](report)
    steps = draw["steps_of"](rows)
    assert actors == ["a", "b"]
    assert [(step.lane, step.first, step.last, step.lines) for step in steps] == [
        (0, 0, 0, ["x"]),
        (0, 1, 1, ["y"]),
        (1, 1, 2, ["z"]),
    ]
    assert draw["picture"](report).count('class="last"') == 1
    with pytest.raises(ValueError, match="no table below"):
        draw["read_table"]("# T\n")


def fixes_in(names: Sequence[str]) -> list[str]:
    return [fix.file for bug in load_bugs(names) for fix in bug.fixes]


def test_every_fix_belongs_to_a_bug() -> None:
    """No file of kernel-fixes/ is left out of the catalogue."""
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "kernel-fixes").rglob("*.patch")}
    assert set(fixes_in(())) == files
