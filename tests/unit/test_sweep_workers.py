# SPDX-License-Identifier: GPL-2.0-only
"""The workers of a sweep, with tests that need no guest: many runs in one process of pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep.messages import Job, Ran
from harness.tools.mutants.sweep.pool import OutOfTime, WorkerLost, Workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUITE = """
import os, threading
import pytest
from harness.pytest_plugin.mutant_switch import switch_of

RUNS = []

@pytest.fixture(scope="session")
def once():
    RUNS.append("session")
    return len(RUNS)

@pytest.fixture
def number(pytestconfig):
    return switch_of(pytestconfig).number

def test_once(once, request):
    assert once == 1
    assert request.node.user_properties == []
    request.node.user_properties.append(("seen", 1))

@pytest.mark.behaviour("TR-01")
def test_mutant(number):
    assert number != 7, "seven is noticed"

def test_skipped():
    pytest.skip("not here")

def test_at_boot(pytestconfig):
    assert switch_of(pytestconfig).kernel_args == ("livepatch.mutant=9",)

def test_hangs(number):
    if number == 8:
        threading.Event().wait()

def test_dies(number):
    if number == 8:
        os._exit(3)
"""
# Each has a worker and pytest to start.
START_S = 120.0


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "suite").mkdir()
    suite = folder / "suite" / "test_all.py"
    suite.write_text(SUITE)
    words = (f"--rootdir={folder}", "-n", "0", "-q", "-p", "no:cacheprovider", str(suite))
    with Workers(words, folder, guests=2) as made:
        yield made


def run(workers: Workers, number: int, *tests: str, limit_s: float = START_S) -> list[Ran]:
    """Return how tests end with a mutant on."""
    job = Job(number=number, tests=tuple(f"suite/test_all.py::test_{each}" for each in tests))
    return list(workers.run(job, limit_s=lambda _: limit_s))


def test_names_of_all_tests(workers: Workers) -> None:
    """A worker has collected them when it is ready."""
    assert "suite/test_all.py::test_mutant" in workers.tests()


def test_a_test_runs_again_as_if_for_the_first_time(workers: Workers) -> None:
    """Fixtures of the session stay, what a test has recorded does not."""
    for _ in range(3):
        (ran,) = run(workers, 1, "once")
        assert (ran.outcome, ran.reason) == (CheckOutcome.PASSED, "")


def test_switch_is_that_of_the_job(workers: Workers) -> None:
    """The mutant of a job is on in its tests; the first failure ends the job."""
    (passed,) = run(workers, 6, "mutant")
    assert (passed.outcome, passed.rules) == (CheckOutcome.PASSED, ("TR-01",))
    (failed,) = run(workers, 7, "mutant", "skipped")
    assert failed.outcome is CheckOutcome.FAILED
    assert "seven is noticed" in failed.reason
    skipped, again = run(workers, 6, "skipped", "mutant")
    assert (skipped.outcome, again.outcome) == (CheckOutcome.SKIPPED, CheckOutcome.PASSED)


def test_mutant_of_the_boot_is_on_the_command_line(workers: Workers) -> None:
    """Its guests are booted with it."""
    job = Job(number=9, tests=("suite/test_all.py::test_at_boot",), at_boot=True)
    (ran,) = workers.run(job, limit_s=lambda _: START_S)
    assert ran.outcome is CheckOutcome.PASSED
    (ran,) = run(workers, 9, "at_boot")
    assert ran.outcome is CheckOutcome.FAILED


def test_unknown_test_is_an_error(workers: Workers) -> None:
    """It is not passed over."""
    (ran,) = run(workers, 1, "gone")
    assert ran.outcome is CheckOutcome.ERROR


def test_worker_that_hangs_is_ended(workers: Workers) -> None:
    """The next job has a new worker."""
    with pytest.raises(OutOfTime):
        run(workers, 8, "hangs", limit_s=0.5)
    (ran,) = run(workers, 1, "hangs")
    assert ran.outcome is CheckOutcome.PASSED


def test_worker_that_dies_is_reported(workers: Workers) -> None:
    """What came before is known; the next job has a new worker."""
    found: list[Ran] = []
    job = Job(number=8, tests=("suite/test_all.py::test_mutant", "suite/test_all.py::test_dies"))
    with pytest.raises(WorkerLost):
        found.extend(workers.run(job, limit_s=lambda _: START_S))
    (ran,) = run(workers, 1, "dies")
    assert ran.outcome is CheckOutcome.PASSED


def test_tests_that_cannot_be_read_end_it(tmp_path: Path) -> None:
    """A broken test file is the end of the sweep, and says where."""
    (tmp_path / "test_broken.py").write_text("import nothing_of_the_kind\n")
    words = (f"--rootdir={tmp_path}", "-n", "0", "-q", str(tmp_path))
    with (
        Workers(words, tmp_path, guests=1) as made,
        pytest.raises(HarnessError, match=r"test_broken\.py.*nothing_of_the_kind"),
    ):
        made.tests()
