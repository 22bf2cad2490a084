# SPDX-License-Identifier: GPL-2.0-only
"""One run of tests by pytest on kernels, in as many guests as the machine overlaps."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.behaviours.latest_results import History
from harness.cli.coverage import Covered
from harness.cli.invocation import kernel_facts, write_file
from harness.cli.options import AccelAsked
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules
from harness.pytest_plugin.early import EarlyTemplate
from harness.pytest_plugin.fork_server.client import fork_server
from harness.pytest_plugin.keeping import GivenKeeper
from harness.pytest_plugin.kernels import GivenKernels
from harness.pytest_plugin.order import KnownSeconds
from harness.report.junit import mark_partial
from harness.resources import Resource, resource_dir, results_root
from harness.tools.suite.guest_count import count_tests, guests_for
from harness.tools.suite.pytest_results import Collector
from harness.tools.suite.pytest_words import left_out, plugin_settings
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cli.coverage import CoverageOptions
    from harness.cli.invocation import Invocation
    from harness.cli.options import CleanKernel
    from harness.errors import ExitCode
    from harness.report.suite_results import TestResult
    from harness.tools.suite.pytest_words import PytestWords
    from harness.vm.guest.keeper import Keeper


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """What to run on. ``guests`` None: as many as the host can take.

    With ``coverage``, whoever has started the run finishes that of its result. With a ``keeper``
    one guest runs at a time, in this process.
    """

    kernels: Sequence[CleanKernel]
    accel: AccelAsked = AccelAsked.AUTO
    smp: int = 2
    guests: int | None = None
    coverage: CoverageOptions | None = None
    keeper: Keeper | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """The result of each test, and the exit code that all of them make.

    ``interrupt`` is what ended the run before its end; whoever has used the results raises it.
    """

    results: Sequence[TestResult]
    exit_code: ExitCode
    interrupt: KeyboardInterrupt | None = None
    covered: Covered | None = None


def run_suite(
    invocation: Invocation,
    options: SuiteOptions,
    words: PytestWords,
    *,
    folders: Sequence[Path] = (),
    junit: str | None = None,
) -> SuiteRun:
    """Build the kernels, run pytest on them, and record the results.

    Run are the paths among the words and the ``folders``; without both, the behaviour suite.
    Raises what building a kernel or its modules raises, and HarnessError without an accelerator.
    """
    terminal = invocation.terminal
    asked = 1 if options.keeper is not None else options.guests
    # First of all: a process with other threads cannot be copied.
    with _workers(asked) as worker:
        choice = prepare_accel(invocation, options.accel)
        most = runs.tests_at_a_time(choice)
        kernels = {}
        for wanted in options.kernels:
            kernel = prepare_kernel(invocation, wanted)
            # Built here, with progress, so that every worker finds them in the cache.
            samples = prepare_modules(terminal, kernel)
            kernels[wanted.request()] = kernel
            terminal.print(f"kernel       {kernel.describe()}, {len(samples)} sample modules")
        covered = None
        if options.coverage is not None:
            covered = Covered(invocation, options.coverage, tuple(kernels.values()))
        suite = resource_dir(Resource.BEHAVIOUR_TESTS)
        added = [str(folder) for folder in folders or (() if words.paths else (suite,))]
        arguments = [
            *plugin_settings(suite),
            *left_out(words.words, (*words.paths, *added), suite),
            *dict.fromkeys(word for kernel in options.kernels for word in kernel.as_arguments()),
            f"--accel={options.accel.value}",
            f"--smp={options.smp}",
            *([f"--junit-xml={junit}"] if junit is not None else []),
            *(covered.arguments if covered is not None else ()),
            *words.words,
            *added,
        ]
        collector = Collector()
        history = History(folder=results_root(), suite=suite)
        seconds = history.seconds(kernel.digest for kernel in kernels.values())
        tests = count_tests(words, arguments, known=seconds, kernels=len(kernels))
        number = asked or guests_for(tests, most)
        terminal.print(f"accelerator  {choice.describe()}", f"guests       {number} at a time")
        status = pytest.main(
            [*_spread(number, worker), *arguments],
            plugins=[
                collector,
                GivenKernels(kernels),
                EarlyTemplate(next(iter(kernels.values()))),
                KnownSeconds(seconds),
                *([GivenKeeper(options.keeper)] if options.keeper is not None else []),
            ],
        )
    results = collector.results()
    _record(invocation, results, history)
    # pytest has caught it and ended its workers.
    ended_by = collector.interrupt
    if ended_by is not None and junit is not None:
        marked = mark_partial(Path(junit), "the run was interrupted: results are missing")
        if marked is not None:
            write_file(Path(junit), marked)
    return SuiteRun(
        results=results,
        exit_code=collector.exit_code(int(status)),
        interrupt=type(ended_by)() if ended_by is not None else None,
        covered=covered,
    )


def _workers(guests: int | None) -> contextlib.AbstractContextManager[str]:
    """Start what forks workers, unless the tests run in this process."""
    return fork_server() if guests != 1 else contextlib.nullcontext("")


def _spread(guests: int, worker: str) -> list[str]:
    # A single worker would start and collect anew, to do what this process can do itself.
    if guests == 1:
        return ["-n", "0"]
    # Each worker takes one test at a time, in the order of harness.pytest_plugin.order.
    # The plan of a run counts the workers by these options.
    return [*[f"--tx={worker}"] * guests, "--dist", "load", "--maxschedchunk", "1"]


def _record(invocation: Invocation, results: Sequence[TestResult], history: History) -> None:
    """Keep the results for `klp-harness behaviours`; what cannot be kept does not undo the run."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        history.record(results, [kernel_facts(made) for made in invocation.kernels], at=now)
    except OSError as error:
        invocation.terminal.note(f"the results cannot be recorded: {error}")
