# SPDX-License-Identifier: GPL-2.0-only
"""How many guests a run has at a time: as many as the host can take, fewer for few tests."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness.behaviours.rule_tests import name_in_suite
from harness.tools.suite.pytest_results import CollectedTests

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.tools.suite.pytest_words import PytestWords

_LEAST_WORKERS = 3
_TESTS_OF_A_WORKER = 2


def count_tests(
    words: PytestWords, arguments: Sequence[str], *, known: Iterable[str], kernels: int = 1
) -> int | None:
    """Return how many tests pytest would run with the arguments, of which these are the words.

    None: a whole folder of them, or it cannot be said. Where all are named that have run before, as
    ``known`` names them, pytest need not collect them for that; each runs on so many ``kernels``.
    """
    if not words.selects:
        return None
    if words.names_tests:
        variants = Counter(name.partition("[")[0] for name in known)
        names = [name_in_suite(path) for path in words.paths]
        numbers = [1 if "[" in name else variants[name] * kernels for name in names]
        if all(numbers):
            return sum(numbers)
    return selected(arguments)


def guests_for(tests: int | None, most: int) -> int:
    """Return how many guests to run at a time for so many tests; None: very many.

    A worker is started in the CPU time of a test: for few tests one is started for each two, though
    not fewer than three.
    """
    if tests is None:
        return most
    return min(most, max(tests, 1), max(_LEAST_WORKERS, -(-tests // _TESTS_OF_A_WORKER)))


def selected(words: Sequence[str]) -> int | None:
    """Return how many tests pytest would run, in half a second; None where it cannot collect."""
    counter = CollectedTests()
    without = [word for word in words if not word.startswith("--junit")]
    # Nothing is lost: the run itself says what is wrong with the words. pytest's terminal plugin
    # stays, since it is the one that knows -q, --tb and others.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = pytest.main(["-n", "0", "--collect-only", *without], plugins=[counter])
    if counter.interrupt is not None:
        raise counter.interrupt
    ended_well = status in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    return counter.tests if ended_well else None
