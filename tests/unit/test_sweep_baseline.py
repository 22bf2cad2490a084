# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of the suite reach on a kernel with no mutant on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep import baseline as baseline_module
from harness.tools.mutants.sweep.baseline import (
    Baseline,
    chosen_tests,
    facts_of,
    obtain_baseline,
)
from harness.tools.mutants.sweep.messages import Job, Ran
from harness.tools.mutants.sweep.schema import RECORD
from harness.vm.host.cache import Store
from tests.unit.sweep_maker import QUICK, ran

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeWorkers:
    """Runs nothing: each test passes, but for those that fail so many times first."""

    def __init__(self, names: tuple[str, ...], failures: dict[str, int] | None = None) -> None:
        self.names = names
        self.failures = failures or {}
        self.ran: list[str] = []

    def tests(self) -> tuple[str, ...]:
        return self.names

    def run(self, job: Job, *, limit_s: Any, whole_s: float = 0.0) -> Iterator[Ran]:
        (test,) = job.tests
        assert job.number == RECORD
        assert limit_s(test) > 0
        self.ran.append(test)
        left = self.failures.get(test, 0)
        self.failures[test] = left - 1
        yield ran(test, CheckOutcome.FAILED if left > 0 else CheckOutcome.PASSED, seen=("4\n",))


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite of two files with ten tests each."""
    for name in ("a", "b"):
        (tmp_path / f"test_{name}.py").write_text(f"# {name}\n")
    monkeypatch.setattr(baseline_module, "resource_dir", lambda _: tmp_path)
    return tmp_path


NAMES = tuple(f"test_{name}.py::test_{n}" for name in "ab" for n in range(10))


def obtain(workers: FakeWorkers, root: Path) -> Baseline:
    return obtain_baseline(
        SimpleNamespace(digest="k"),  # type: ignore[arg-type]
        workers,
        guests=2,
        store=Store(root / "cache"),
        deadline=Deadline.after(20),
        progress=lambda done, total: None,
    )


def test_baseline_is_kept_by_file(suite: Path) -> None:
    """Only the tests of a file that has changed run again."""
    first, second, third = (FakeWorkers(NAMES) for _ in range(3))
    made = obtain(first, suite)
    assert sorted(first.ran) == sorted(NAMES)
    assert obtain(second, suite) == made
    assert second.ran == []
    (suite / "test_b.py").write_text("# another\n")
    changed_one = obtain(third, suite)
    assert sorted(third.ran) == sorted(NAMES[10:])
    assert changed_one.key != made.key
    assert changed_one.tests == made.tests


def test_test_that_fails_without_a_mutant_is_tried_again(suite: Path) -> None:
    """Twice in a run; and in the next run, since the host may have been at fault."""
    once = obtain(FakeWorkers(NAMES, {NAMES[0]: 1}), suite)
    assert once.failing == ()
    (suite / "test_a.py").write_text("# new\n")
    twice = obtain(FakeWorkers(NAMES, {NAMES[0]: 2}), suite)
    assert twice.failing == (NAMES[0],)
    again = FakeWorkers(NAMES)
    assert obtain(again, suite).failing == ()
    assert sorted(again.ran) == sorted(NAMES[:10])


def test_no_sweep_where_the_suite_fails(suite: Path) -> None:
    """When many tests fail without a mutant, nothing could be judged."""
    with pytest.raises(HarnessError, match="3 of 20 tests fail") as caught:
        obtain(FakeWorkers(NAMES, dict.fromkeys(NAMES[:3], 2)), suite)
    assert caught.value.details


def test_record_of_all_guests_of_a_test_is_added() -> None:
    """A test may start several guests; what one of them saw counts."""
    facts = facts_of(ran(QUICK, seen=("04\n", "0c1\n")))
    assert facts.reached == {3, 4}
    assert facts.differs == {3}
    assert facts.can_notice


def test_tests_on_other_kernels_are_left_out(tmp_path: Path) -> None:
    """A test for which the kernel is built with other options does not run on a mutant."""
    (tmp_path / "test_a.py").write_text(
        "import pytest\n@pytest.mark.kernel_config('debug')\ndef test_a(): ...\ndef test_b(): ...\n"
    )
    names = ("test_a.py::test_a[x]", "test_a.py::test_b")
    assert chosen_tests(names, tmp_path) == ("test_a.py::test_b",)
