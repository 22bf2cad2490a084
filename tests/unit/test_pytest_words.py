# SPDX-License-Identifier: GPL-2.0-only
"""Which words of `klp-harness test` are pytest's, and which tests they name."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import UsageError
from harness.resources import Resource, resource_dir
from harness.tools.suite.pytest_words import (
    WITHOUT_GUESTS,
    PytestWords,
    checkout,
    left_out,
    plugin_settings,
    read_words,
)

SUITE = resource_dir(Resource.BEHAVIOUR_TESTS)
TESTS = SUITE.parent
FILE = str(SUITE / "transition" / "test_sleeper.py")


def read(*words: str) -> PytestWords:
    return read_words(words, SUITE, settings=plugin_settings(SUITE), own=("--guests", "--json"))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-k", "gate"],
        ["-x", "--fresh=boot"],
        ["--fresh", "boot"],
        ["-m", "slow"],
        ["--maxfail", "2"],
        ["--deselect", FILE],
        ["--ignore", str(SUITE / "fork")],
        ["-W", "error"],
        ["--lf"],
    ],
)
def test_the_value_of_an_option_names_no_test(words: list[str]) -> None:
    """The suite runs whole unless a word names a part of it."""
    assert read(*words).paths == ()


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ([FILE], [FILE]),
        (["-x", f"{FILE}::test_a", "-k", "b"], [f"{FILE}::test_a"]),
        (["--deselect", FILE, str(SUITE)], [str(SUITE)]),
        (["--maxfail", "2", str(SUITE / "fork"), FILE], [str(SUITE / "fork"), FILE]),
    ],
)
def test_words_that_name_tests(words: list[str], paths: list[str]) -> None:
    """A path is one wherever it stands among the options."""
    assert list(read(*words).paths) == paths


@pytest.mark.parametrize(
    ("words", "selects"),
    [
        (["-k", "TR-01"], True),
        (["-kTR"], True),
        (["-m", "slow"], True),
        (["--lf"], True),
        ([f"{FILE}::test_a"], True),
        ([FILE], True),
        ([], False),
        ([str(SUITE)], False),
        (["-x", "--durations=5", str(SUITE)], False),
    ],
)
def test_what_is_a_selection(words: list[str], selects: bool) -> None:
    """The tests are counted, to start fewer guests, only where a part of them is wanted."""
    assert read(*words).selects is selects


@pytest.mark.parametrize(
    ("words", "names_tests"),
    [
        ([f"{FILE}::test_a", f"{FILE}::test_b"], True),
        ([f"{FILE}::test_a", FILE], False),
        ([f"{FILE}::test_a", "-k", "test"], False),
        ([f"{FILE}::test_a", "-m", "slow"], False),
        ([f"{FILE}::test_a", "--lf"], False),
        ([], False),
    ],
)
def test_words_that_name_nothing_but_tests(words: list[str], names_tests: bool) -> None:
    """Their number may be known without a look at their files."""
    assert read(*words).names_tests is names_tests


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["TR-01"], "there is no test file TR-01", "-k TR-01"),
        (["tr-1"], "there is no test file tr-1", "-k TR-01"),
        (["TR"], "there is no test file TR", "-k TR"),
        (["6.12"], "there is no test file 6.12", "--kernel 6.12"),
        (["test_sleper.py"], "there is no test file test_sleper.py", f"did you mean {FILE}?"),
        (["nowhere/at/all"], "there is no test file nowhere/at/all", f"the suite is in {SUITE}"),
        (["--kernl", "6.1"], "has an option --kernl", "did you mean --kernel"),
        (["--gests=2"], "has an option --gests", "did you mean --guests"),
        (["--maxfial", "2"], "has an option --maxfial", "did you mean --maxfail"),
        (["--no-such-thing-at-all"], "has an option --no-such-thing-at-all", ""),
        (["--maxfail", "x"], "invalid int value: 'x'", ""),
    ],
)
def test_what_is_nothing_is_refused_with_what_was_meant(
    words: list[str], message: str, hint: str
) -> None:
    """A rule, a kernel and a misspelt name are answered with how each is given."""
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert message in caught.value.message
    assert hint.replace("the suite", "the behaviour suite") in (caught.value.hint or "")


@pytest.mark.parametrize("command", ["test", "matrix"])
def test_the_commands_refuse_it_before_any_work(command: str) -> None:
    """No kernel is built for a misspelt option, and the exit code is that of wrong usage."""
    ran = CliRunner().invoke(app, [command, "--gests", "2"], prog_name="klp-harness")
    assert ran.exit_code == 2
    assert "did you mean --guests" in ran.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--lf", "--lf needs pytest's record of the last run"),
        ("--ff", "--ff needs pytest's record of the last run"),
        ("--lff", "neither klp-harness nor pytest has an option --lff"),
    ],
)
def test_what_an_installed_suite_cannot_do_is_said(
    option: str, message: str, tmp_path: Path
) -> None:
    """--lf needs a record that pytest would write beside the installed package."""
    with pytest.raises(UsageError, match=message):
        read_words([option], tmp_path, settings=plugin_settings(tmp_path))


def test_an_installed_suite_has_its_configuration(tmp_path: Path) -> None:
    """Outside a checkout pytest gets by options what pyproject.toml has, and writes no cache."""
    words = plugin_settings(tmp_path / "tests" / "behaviours")
    assert f"--rootdir={tmp_path / 'tests' / 'behaviours'}" in words
    assert {"xfail_strict=true", "no:cacheprovider"} <= set(words)
    assert "no:cacheprovider" not in plugin_settings(SUITE)


def test_a_checkout_is_known_by_its_project_file(tmp_path: Path) -> None:
    """--all runs what only a checkout has."""
    suite = tmp_path / "tests" / "behaviours"
    assert checkout(suite) is None
    (tmp_path / "pyproject.toml").touch()
    assert checkout(suite) == tmp_path


@pytest.mark.parametrize(
    ("words", "paths", "is_left_out"),
    [
        ([], [SUITE], True),
        (["-k", "TR-01"], [f"{SUITE}/stacking/test_stack.py::test_a"], True),
        ([], [TESTS / "guest", SUITE], True),
        ([], [TESTS / "unit"], False),
        ([], [SUITE, f"{TESTS}/unit/test_left_out.py::test_a"], False),
        (["--hypothesis-seed=1"], [SUITE], False),
        ([], [TESTS.parent], False),
        ([], ["/tmp", SUITE], False),
    ],
)
def test_hypothesis_is_left_out_where_nothing_uses_it(
    words: list[str], paths: list[object], is_left_out: bool
) -> None:
    """Runs of the project's own guest tests go without its plugin; all others keep it."""
    settings = left_out(words, [str(path) for path in paths], SUITE)
    assert settings == (["-p", "no:hypothesispytest"] if is_left_out else [])


def test_words_that_are_too_long_for_a_path() -> None:
    """A long expression is one; as a test file it does not exist."""
    expression = " or ".join(["test_of_this_name"] * 20)
    assert read_words(["-k", expression], SUITE).selects
    with pytest.raises(UsageError, match="there is no test file"):
        read_words([expression.replace(" ", "_")], SUITE)


def test_no_guest_test_uses_hypothesis() -> None:
    """A test that did would fail where its plugin is left out."""
    files = [
        path
        for path in TESTS.rglob("*.py")
        if path.relative_to(TESTS).parts[0] not in WITHOUT_GUESTS
    ]
    assert len(files) > 20
    assert not [path for path in files if "hypothesis" in path.read_text()]
