# SPDX-License-Identifier: GPL-2.0-only
"""One run of tests by pytest on kernels, in as many guests as the machine overlaps."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.behaviours.latest_results import History
from harness.cli.exits import Terminated
from harness.cli.invocation import kernel_facts
from harness.cli.modules import ModuleFinder
from harness.cli.options import AccelAsked
from harness.cli.prepare import prepare_accel, prepare_kernel
from harness.pytest_plugin.early import EarlyTemplate
from harness.resources import Resource, cache_root, resource_dir, results_root
from harness.tools.suite.pytest_results import Collector, Counter
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cli.invocation import Invocation
    from harness.cli.options import CleanKernel
    from harness.errors import ExitCode
    from harness.report.suite_results import TestResult

_PLUGIN = "harness.pytest_plugin"
_LEAST_WORKERS = 3
_TESTS_OF_A_WORKER = 3


@dataclass(frozen=True, kw_only=True)
class SuiteAsked:
    """What to run, and on what. ``guests`` None: as many as the host can take."""

    kernels: Sequence[CleanKernel]
    accel: AccelAsked = AccelAsked.AUTO
    smp: int = 2
    guests: int | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """What came of it: each test, and the exit code that all of them make."""

    results: Sequence[TestResult]
    exit_code: ExitCode


def run_suite(invocation: Invocation, asked: SuiteAsked, arguments: Sequence[str]) -> SuiteRun:
    """Build the kernels, run pytest on them with these arguments, and record what came of it.

    Raises what building a kernel or its modules raises, and HarnessError without an accelerator.
    """
    terminal = invocation.terminal
    choice = prepare_accel(invocation, asked.accel)
    most = runs.guests_at_a_time(choice)
    kernels = []
    for kernel in asked.kernels:
        made = prepare_kernel(invocation, kernel)
        # Built here, with progress, so that every worker finds them in the cache.
        built = ModuleFinder(terminal, made).samples
        kernels.append(made)
        terminal.print(f"kernel       {made.describe()}, {len(built)} sample modules")
    folder = resource_dir(Resource.BEHAVIOUR_TESTS)
    _keep_bytecode()
    words = [*_options(asked, folder), *_left_out(arguments, folder), *arguments]
    number = asked.guests or guests_for(_selected(words) if selects(arguments) else None, most)
    terminal.print(f"accelerator  {choice.describe()}", f"guests       {number} at a time")
    collector = Collector()
    status = pytest.main(
        [*_spread(number), *words],
        plugins=[collector, EarlyTemplate(kernels[0])],
    )
    results = collector.results()
    _record(invocation, results, folder)
    if collector.interrupt is not None:
        invocation.results += results
        # pytest has caught it and ended its workers; go on as if it had not.
        raise Terminated if isinstance(collector.interrupt, Terminated) else KeyboardInterrupt
    return SuiteRun(results=results, exit_code=collector.exit_code(int(status)))


def guests_for(tests: int | None, most: int) -> int:
    """Return how many guests to run at a time for so many tests; None: very many.

    A worker is started in the CPU time of two tests or more: for few tests one is started for each
    three, though not fewer than three.
    """
    if tests is None:
        return most
    return min(most, max(tests, 1), max(_LEAST_WORKERS, -(-tests // _TESTS_OF_A_WORKER)))


def selects(arguments: Sequence[str]) -> bool:
    """Return whether pytest is told to run some tests of a folder, and not them all."""
    return any(
        word.startswith(("-k", "-m", "--lf", "--last-failed"))
        or "::" in word
        or Path(word).is_file()
        for word in arguments
    )


def checkout(folder: Path) -> Path | None:
    """Return the root of the checkout that the suite in ``folder`` is part of; None: installed."""
    root = folder.parent.parent
    return root if (root / "pyproject.toml").is_file() else None


def _selected(words: Sequence[str]) -> int | None:
    """Return how many tests pytest would run, in half a second; None where it cannot collect."""
    counter = Counter()
    told = [word for word in words if not word.startswith("--junit")]
    status = pytest.main(
        ["-n", "0", "--collect-only", "-p", "no:terminal", *told], plugins=[counter]
    )
    if counter.interrupt is not None:
        raise counter.interrupt
    ended_well = status in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    return counter.tests if ended_well else None


def _spread(guests: int) -> list[str]:
    # A single worker would start and collect anew, to do what this process can do itself.
    return ["-n", str(guests), "--dist", "worksteal"] if guests > 1 else ["-n", "0"]


def _options(asked: SuiteAsked, folder: Path) -> list[str]:
    return [
        *_plugins(),
        # This command is the plugin's own package: it is imported, and needs no rewriting.
        *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
        *dict.fromkeys(word for kernel in asked.kernels for word in kernel.as_arguments()),
        f"--accel={asked.accel.value}",
        f"--smp={asked.smp}",
        *_configuration(folder),
    ]


def _left_out(arguments: Sequence[str], folder: Path) -> list[str]:
    """Return what keeps hypothesis' own plugin out of a run that has none of its tests.

    It costs each worker 0.2 s, and the end of each run a second, for all of hypothesis is imported
    there. What is named from elsewhere may have such tests.
    """
    root = folder.parent if checkout(folder) is not None else folder
    paths = [Path(word.partition("::")[0]).resolve() for word in arguments]
    ours = all(
        path.is_relative_to(root) and not path.is_relative_to(root / "unit")
        for path in paths
        if path.exists()
    )
    asked_of_it = any(word.startswith("--hypothesis") for word in arguments)
    return ["-p", "no:hypothesispytest"] if ours and not asked_of_it else []


def _keep_bytecode() -> None:
    """Keep compiled files in the cache where Python was told to leave none beside its sources.

    Each worker reads all test files, and to compile them takes most of that time.
    """
    if sys.dont_write_bytecode:
        prefix = str(cache_root() / "bytecode")
        sys.dont_write_bytecode, sys.pycache_prefix = False, prefix
        os.environ["PYTHONPYCACHEPREFIX"] = prefix
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _plugins() -> list[str]:
    """Return what loads our plugin where it is not installed with its entry point."""
    installed = importlib.metadata.entry_points(group="pytest11", name="klp_harness")
    return [] if installed else ["-p", _PLUGIN]


def _configuration(folder: Path) -> list[str]:
    """Return what a checkout's pyproject.toml says, for an installed suite, which has none."""
    if checkout(folder) is not None:
        return []
    return [
        f"--rootdir={folder}",
        *("-o", "addopts=", "-o", "xfail_strict=true"),
        *("-p", "no:cacheprovider", "--import-mode=importlib", "--strict-markers"),
    ]


def _record(invocation: Invocation, results: Sequence[TestResult], folder: Path) -> None:
    """Keep the results for `klp-harness behaviours`; what cannot be kept does not undo the run."""
    history = History(folder=results_root(), suite=folder)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        history.record(results, [kernel_facts(made) for made in invocation.kernels], at=now)
    except OSError as error:
        invocation.terminal.note(f"the results cannot be recorded: {error}")
