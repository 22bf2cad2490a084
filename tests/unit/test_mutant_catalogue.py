# SPDX-License-Identifier: GPL-2.0-only
"""Kernel mutants: their headers, their ports, and how some of them are chosen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.behaviours.mutants import (
    check_rules,
    choose,
    fitted,
    load_mutants,
    read_mutant,
    series_of,
    written_for,
)
from harness.cli.app import app
from harness.errors import ExitCode, PatchDoesNotApply, UsageError
from harness.tools.mutants.mutant_trial import not_run
from harness.tools.mutants.sample import SEED_VARIABLE, sample, seed_from
from tests.unit.test_mutation import CATALOGUE, DIFF, FORMS, TABLE, TESTS, patch_file

if TYPE_CHECKING:
    from harness.behaviours.mutants import Mutant


# -- the catalogue


@pytest.mark.parametrize("mutant", FORMS, ids=lambda m: f"{m.name} {'/'.join(m.kernels)}")
def test_a_mutant_of_the_catalogue_says_what_it_breaks(mutant: Mutant) -> None:
    """Its rules are rows of the table, and one of them has a test."""
    known = {rule.id for rule in TABLE.rule}
    assert mutant.broken
    assert mutant.breaks
    assert set(mutant.breaks) <= known
    assert mutant.kernels
    assert set(mutant.kernels) <= set(TABLE.series)
    assert mutant.equivalent or any(TESTS.get(rule) for rule in mutant.breaks)


def test_a_rule_that_there_is_not(tmp_path: Path) -> None:
    """A misspelt rule is refused before anything is built, with a similar one as a hint."""
    mutant = read_mutant(patch_file(tmp_path, "Breaks: TR-01 TR-20"))
    check_rules([mutant], ["TR-01", "TR-20"])
    with pytest.raises(UsageError, match="no such rule") as raised:
        check_rules([mutant], ["TR-01", "TR-02"])
    assert "did you mean TR-02" in str(raised.value.hint)
    wrong = patch_file(tmp_path, "Breaks: TR-99", name="wrong.patch")
    run = CliRunner().invoke(app, ["mutants", "run", "--patch", str(wrong)])
    assert run.exit_code == ExitCode.USAGE
    assert "wrong.patch: Breaks names TR-99" in run.stderr


def test_names_carry_the_commit_that_they_undo() -> None:
    """A commit at the end of a name is the commit in the header."""
    for mutant in CATALOGUE:
        named = re.search(r"-([0-9a-f]{8})$", mutant.name)
        assert mutant.commit == (named[1] if named else mutant.commit)


def test_a_port_breaks_the_same() -> None:
    """A port has other code, and the same description, commit and visibility."""
    for mutant in CATALOGUE:
        for port in mutant.ports:
            message = (port.broken, port.commit, port.always)
            assert message == (mutant.broken, mutant.commit, mutant.always), port.path


def test_a_header(tmp_path: Path) -> None:
    """All fields are read, also one with two lines, and unknown fields are ignored."""
    mutant = read_mutant(
        patch_file(
            tmp_path,
            "Broken: this\n  and that\nBreaks: TR-01 SV-02\nCommit: d83a7cb3\nKernels: 6.1 6.12\n"
            "Config: workloads preempt\nShows: sometimes\nEquivalent: since\nSomething: else\n",
        )
    )
    assert mutant.name == "m"
    assert mutant.broken == "this and that"
    assert mutant.breaks == ("TR-01", "SV-02")
    assert (mutant.commit, mutant.kernels) == ("d83a7cb3", ("6.1", "6.12"))
    assert mutant.config == ("workloads", "preempt")
    assert not mutant.always
    assert mutant.equivalent == "since"
    assert mutant.diff == DIFF


def test_a_patch_of_a_users_own_needs_no_header(tmp_path: Path) -> None:
    """A patch without a header is a mutant of no known rule."""
    mutant = read_mutant(patch_file(tmp_path))
    assert (mutant.broken, mutant.breaks, mutant.kernels, mutant.always) == ("", (), (), True)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Breaks: TR-1", "no rule's id"),
        ("Commit: yesterday", "no commit's number"),
        ("Shows: now and then", "always or sometimes"),
    ],
)
def test_a_header_that_is_wrong(header: str, message: str, tmp_path: Path) -> None:
    """A malformed field is refused with the name of the file."""
    with pytest.raises(UsageError, match=message) as caught:
        read_mutant(patch_file(tmp_path, header))
    assert "m.patch" in caught.value.message


def test_choosing(tmp_path: Path) -> None:
    """Mutants are chosen by name, in the given order, each once; an unknown name gets a hint."""
    for name in ("no-check.patch", "no-sync.patch"):
        patch_file(tmp_path, name=name)
    known = load_mutants(tmp_path)
    chosen = choose(known, ["no-sync", "no-check.patch", "no-sync"])
    assert [mutant.name for mutant in chosen] == ["no-sync", "no-check"]
    with pytest.raises(UsageError, match="no kernel mutant no-chek") as caught:
        choose(known, ["no-chek"])
    assert caught.value.hint == "did you mean no-check?"


def test_what_is_written_for_a_series(tmp_path: Path) -> None:
    """A mutant without series is for every kernel."""
    one = read_mutant(patch_file(tmp_path, "Kernels: 6.1"))
    every = read_mutant(patch_file(tmp_path))
    assert written_for([one, every], "6.1") == (one, every)
    assert written_for([one, every], "6.12") == (every,)
    assert [series_of(v) for v in ("6.1.192", "6.12-rc1", "7.2.0-rc1")] == ["6.1", "6.12", "7.2"]


def test_ports(tmp_path: Path) -> None:
    """A port for a series replaces the mutant there; one without a port is unchanged."""
    patch_file(tmp_path, "Kernels: 6.1")
    patch_file(tmp_path, "Kernels: 6.1", name="old.patch")
    for inner, kernels, name in (
        ("6.12", "6.12 7.1", "m.patch"),
        ("7.2", "7.2", "m.patch"),
        ("7.2", "7.2", "new.patch"),
        ("attic", "6.1", "m.patch"),
    ):
        (tmp_path / inner).mkdir(exist_ok=True)
        patch_file(tmp_path / inner, f"Kernels: {kernels}", name=name)
    known = load_mutants(tmp_path)
    assert [(mutant.name, mutant.series) for mutant in known] == [
        ("m", ("6.1", "6.12", "7.1", "7.2")),
        ("new", ("7.2",)),
        ("old", ("6.1",)),
    ]
    chosen = fitted(written_for(known, "7.1"), "7.1")
    assert [mutant.path for mutant in chosen] == [tmp_path / "6.12/m.patch"]
    assert [m.path.parent.name for m in fitted(known, "7.2")] == ["7.2", "7.2", tmp_path.name]
    assert not_run(known[0]).kernels == known[0].series


@pytest.mark.parametrize(
    ("kernels", "message"), [("6.1 6.12", "written for 6.1 too"), ("7.2", "does not name 6.12")]
)
def test_a_port_that_is_wrong(kernels: str, message: str, tmp_path: Path) -> None:
    """Two files for one series are refused, and a port in the wrong folder."""
    patch_file(tmp_path, "Kernels: 6.1")
    (tmp_path / "6.12").mkdir()
    patch_file(tmp_path / "6.12", f"Kernels: {kernels}")
    with pytest.raises(UsageError, match=message):
        load_mutants(tmp_path)


def test_a_folder_without_mutants(tmp_path: Path) -> None:
    """A folder without patches is refused, and so is a file that is no patch."""
    with pytest.raises(UsageError, match="no patches"):
        load_mutants(tmp_path)
    (tmp_path / "x.patch").write_text("hello")
    with pytest.raises(PatchDoesNotApply):
        load_mutants(tmp_path)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_seeds_that_follow_each_other_take_all(count: int, tmp_path: Path) -> None:
    """Each mutant once before any comes again; the same seed takes the same, in the same order."""
    names = [f"m{number}" for number in range(10)]
    mutants = [read_mutant(patch_file(tmp_path, name=f"{name}.patch")) for name in names]
    runs = [sample(mutants, count, seed) for seed in range(7, 7 + 10 // count)]
    taken = [mutant.name for run in runs for mutant in run]
    assert sorted(taken) == names
    first = taken.index("m0")
    assert taken[first:] + taken[:first] != names
    assert sample(mutants[::-1], count, 7) == runs[0]
    assert len(sample(mutants, 11, 3)) == 10


def test_the_seed_of_the_environment() -> None:
    """The seed may be missing; anything but a number is refused."""
    assert seed_from({}) is None
    assert seed_from({SEED_VARIABLE: "0"}) == 0
    assert seed_from({SEED_VARIABLE: "123"}) == 123
    for wrong in ("", "-1", "x", "1.5"):
        with pytest.raises(UsageError, match=SEED_VARIABLE):
            seed_from({SEED_VARIABLE: wrong})


def test_a_seed_without_a_sample_is_wrong_usage() -> None:
    """--seed alone would have no effect, and is refused."""
    ended = CliRunner().invoke(app, ["mutants", "run", "--seed", "1"])
    assert ended.exit_code == ExitCode.USAGE
    assert "--sample" in ended.output
