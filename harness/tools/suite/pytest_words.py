# SPDX-License-Identifier: GPL-2.0-only
"""The words of a command line that are for pytest, as pytest's own parser reads them.

Which words are options, and which of these take the next word as their value, only pytest and its
plugins know.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib.metadata
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pytest
import typer

from harness.behaviours.table import load_table
from harness.errors import UsageError
from harness.resources import Resource, resource_dir
from harness.vm.kernel.spec import SERIES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

PytestArguments = Annotated[
    tuple[str, ...],
    typer.Argument(metavar="PYTEST_ARG", help="For pytest: test files, -k EXPR, -x, --fresh=boot."),
]
WITHOUT_GUESTS = ("unit", "faults", "fuzz")
"""Folders below tests/ of a checkout that start no guest: they are for `make check`."""

_UNKNOWN = re.compile(r"unrecognized arguments: (.*)")
_ERROR = re.compile(r"error: (.*)")
_RULE = re.compile(r"([A-Za-z]{2})-?(\d{1,2})")


@dataclass(frozen=True, kw_only=True)
class PytestWords:
    """What words mean to pytest.

    ``paths`` are the tests and folders named; ``selects``: some tests of a folder are wanted.
    ``names_tests``: nothing is named but tests, and all of those are wanted.
    """

    words: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    selects: bool = False
    names_tests: bool = False


def checkout(folder: Path) -> Path | None:
    """Return the root of the checkout that the suite in ``folder`` is part of; None: installed."""
    root = folder.parent.parent
    return root if (root / "pyproject.toml").is_file() else None


def plugin_settings(folder: Path) -> list[str]:
    """Return the options with which pytest runs the suite in ``folder``, installed or not."""
    # This command is the plugin's own package: it is imported, and needs no rewriting.
    settings = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    if not importlib.metadata.entry_points(group="pytest11", name="klp_harness"):
        settings += ["-p", "harness.pytest_plugin"]
    if checkout(folder) is not None:
        return settings
    # What a checkout's pyproject.toml says; an installed suite has none.
    return [
        *settings,
        f"--rootdir={folder}",
        *("-o", "addopts=", "-o", "xfail_strict=true"),
        *("-p", "no:cacheprovider", "--import-mode=importlib", "--strict-markers"),
    ]


def left_out(words: Sequence[str], paths: Sequence[str], folder: Path) -> list[str]:
    """Return what keeps hypothesis' own plugin out of a run that has none of its tests.

    It costs each worker 0.2 s, and the end of each run a second, for all of hypothesis is imported
    there. Tests of others may need it.
    """
    root = folder.parent if checkout(folder) is not None else folder
    ours = all(
        path.is_relative_to(root)
        and not any(path.is_relative_to(root / name) for name in WITHOUT_GUESTS)
        for path in (Path(name.partition("::")[0]).resolve() for name in paths)
    )
    for_its_plugin = any(word.startswith("--hypothesis") for word in words)
    return ["-p", "no:hypothesispytest"] if ours and not for_its_plugin else []


def words_for_pytest(words: Sequence[str], context: typer.Context) -> PytestWords:
    """Return what the words mean to pytest, which were left over by a command of the harness.

    Raises UsageError as `read_words` does.
    """
    folder = resource_dir(Resource.BEHAVIOUR_TESTS)
    own = [name for option in context.command.params for name in option.opts]
    settings = [*plugin_settings(folder), *left_out(words, (), folder)]
    return read_words(words, folder, settings=settings, own=own)


class _Parsed:
    """A pytest plugin object that ends a run when the command line is parsed, and keeps it."""

    config: pytest.Config | None = None
    options: Collection[str] = ()

    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> None:
        """Keep the names of all options, for one that is misspelt."""
        names = vars(early_config.known_args_namespace)
        self.options = [f"--{name.replace('_', '-')}" for name in names]

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """Keep what was parsed, in place of running tests."""
        self.config = config
        return 0


def read_words(
    words: Sequence[str], folder: Path, *, settings: Sequence[str] = (), own: Iterable[str] = ()
) -> PytestWords:
    """Return what the words mean to pytest, run with these settings on the suite in ``folder``.

    Raises UsageError for an unknown option, and for tests that do not exist; its hint names what
    may have been meant. ``own`` are the options of the command itself.
    """
    if not words:
        return PytestWords()
    names_a_path = any(_exists(word.partition("::")[0]) for word in words)
    # As in the run itself, which finds its configuration by the paths.
    default = [] if names_a_path else [str(folder)]
    parsed, complaint = _parse([*settings, *words, *default])
    if parsed.config is None:
        raise _refused(words, complaint, [*own, *parsed.options], settings)
    option = parsed.config.option
    paths: tuple[str, ...] = ()
    if parsed.config.args_source is pytest.Config.ArgsSource.ARGS:
        paths = tuple(path for path in parsed.config.args if path not in default)
    if not option.pyargs:
        for path in paths:
            _check(path, folder)
    filters = bool(option.keyword or option.markexpr or getattr(option, "lf", False))
    return PytestWords(
        words=tuple(words),
        paths=paths,
        selects=filters or any("::" in path or _exists(path, Path.is_file) for path in paths),
        names_tests=bool(paths) and not filters and all("::" in path for path in paths),
    )


def _parse(words: Sequence[str]) -> tuple[_Parsed, str]:
    parsed, complaint = _Parsed(), io.StringIO()
    with contextlib.redirect_stderr(complaint):
        pytest.main(list(words), plugins=[parsed])
    return parsed, complaint.getvalue()


def _refused(
    words: Sequence[str], complaint: str, options: Collection[str], settings: Sequence[str]
) -> UsageError:
    unknown = _UNKNOWN.search(complaint)
    if unknown is None:
        error = _ERROR.search(complaint)
        if error is not None:
            return UsageError(f"pytest: {error[1]}")
        return UsageError("pytest cannot begin", details=tuple(complaint.splitlines()))
    name = unknown[1].split()[0].partition("=")[0]
    if "no:cacheprovider" in settings:
        with_its_record, _ = _parse([*settings, "-p", "cacheprovider", *words])
        if with_its_record.config is not None:
            return UsageError(
                f"{name} needs pytest's record of the last run, and an installed suite keeps none",
                hint="work in a checkout, or choose tests with -k: `klp-harness behaviours` shows "
                "which failed",
            )
    near = difflib.get_close_matches(name, dict.fromkeys(options), n=2)
    return UsageError(
        f"neither klp-harness nor pytest has an option {name}",
        hint=f"did you mean {' or '.join(near)}?" if near else None,
    )


def _check(named: str, folder: Path) -> None:
    path = named.partition("::")[0]
    if _exists(path):
        return
    raise UsageError(f"there is no test file {path}", hint=_meant(path, folder))


def _exists(named: str, how: Callable[[Path], bool] = Path.exists) -> bool:
    """Return whether a word is a path: an expression of -k may be none, being too long."""
    try:
        return how(Path(named))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def _meant(word: str, folder: Path) -> str:
    if word in SERIES:
        return f"a kernel is chosen with --kernel {word}"
    table = load_table()
    ids = [*(rule.id for rule in table.rule), *(section.id for section in table.section)]
    # TR-1, tr01 and TR- are TR-01 and TR.
    number = _RULE.fullmatch(word)
    rule = f"{number[1]}-{int(number[2]):02}" if number else word.rstrip("-")
    if rule.upper() in ids:
        return f"the tests of a rule are chosen with -k {rule.upper()}"
    files = {path.name: path for path in sorted(folder.rglob("test_*.py"))}
    near = difflib.get_close_matches(Path(word).name, files, n=1)
    return f"did you mean {files[near[0]]}?" if near else f"the behaviour suite is in {folder}"
