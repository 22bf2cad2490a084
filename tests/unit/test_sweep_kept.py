# SPDX-License-Identifier: GPL-2.0-only
"""The results of a sweep that was interrupted, and of the one before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep.baseline import Baseline
from harness.tools.mutants.sweep.kept import KeptResults
from harness.tools.mutants.sweep.results import BY_OBJECT, Noticed
from harness.tools.mutants.sweep.scores import changed
from tests.unit.sweep_maker import QUICK, results

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.tools.mutants.sweep.results import SweepResult


def the_key(_result: SweepResult) -> str:
    return "key"


def test_interrupted_sweep_is_taken_up(tmp_path: Path) -> None:
    """Results are kept as they come; a line that was cut off, and errors, are made again."""
    caught, gone, failed = results(CheckOutcome.CAUGHT, CheckOutcome.SURVIVED, CheckOutcome.ERROR)
    names = {each.id for each in (caught, gone, failed)}
    with KeptResults(tmp_path / "kept", the_key) as kept:
        assert kept.take_up(names) == {}
        kept.begin(names, {})
        for result in (caught, failed, gone):
            kept.add(result)
    file = tmp_path / "kept" / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    with KeptResults(tmp_path / "kept", the_key) as kept:
        assert kept.take_up(names) == {caught.id: caught}
        assert kept.take_up({gone.id}) == {}
        with pytest.raises(UsageError, match="another sweep"), KeptResults(kept.folder, the_key):
            pass
    with KeptResults(tmp_path / "kept", lambda _: "another kernel") as kept:
        assert kept.take_up(names) == {}


def test_sweep_that_ended_is_what_the_next_is_compared_with(tmp_path: Path) -> None:
    """After the end nothing is taken up, and the outcomes are those of the last sweep."""
    (caught,) = results(CheckOutcome.CAUGHT)
    caught = caught.model_copy(update={"noticed": Noticed(test=QUICK, how="test")})
    with KeptResults(tmp_path, the_key) as kept:
        kept.begin({caught.id}, {})
        kept.add(caught)
        kept.finish()
    with KeptResults(tmp_path, the_key) as kept:
        assert kept.take_up({caught.id}) == {}
        assert kept.before == {caught.id: CheckOutcome.CAUGHT}
        assert kept.noticed_by == {caught.id: QUICK}
    now = caught.model_copy(
        update={"outcome": CheckOutcome.SURVIVED, "before": kept.before[caught.id]}
    )
    assert changed([now, caught]) == (now,)


def test_gap_that_is_explained_since_is_judged_anew(tmp_path: Path) -> None:
    """What was kept says that nobody knows why; other results stay."""
    caught, survived = results(CheckOutcome.CAUGHT, CheckOutcome.SURVIVED)
    both = {caught.id, survived.id}
    with KeptResults(tmp_path, the_key) as kept:
        kept.begin(both, {})
        kept.add(caught)
        kept.add(survived)
        assert kept.take_up(both, ()).keys() == both
        assert kept.take_up(both, both) == {caught.id: caught}


def test_what_rests_on_an_explanation_is_judged_anew(tmp_path: Path) -> None:
    """The list may say something else by now; what the compiler said stays."""
    excused, proved, same = results(
        CheckOutcome.SURVIVED, CheckOutcome.EQUIVALENT, CheckOutcome.EQUIVALENT
    )
    excused = excused.model_copy(update={"explained": True})
    proved = proved.model_copy(update={"detail": "there is no other caller"})
    same = same.model_copy(update={"detail": BY_OBJECT})
    names = {each.id for each in (excused, proved, same)}
    with KeptResults(tmp_path, the_key) as kept:
        kept.begin(names, {})
        for result in (excused, proved, same):
            kept.add(result)
        assert kept.take_up(names) == {same.id: same}


def test_changed_test_takes_its_results_with_it(tmp_path: Path) -> None:
    """What other tests noticed stays; what all tests passed does not. History stays."""
    before = Baseline(tests={}, keys={"test_a.py": "1", "test_b.py": "1"})
    after = Baseline(tests={}, keys={"test_a.py": "1", "test_b.py": "2"})
    first, second, survived = results(
        CheckOutcome.CAUGHT, CheckOutcome.CAUGHT, CheckOutcome.SURVIVED
    )
    first = first.model_copy(update={"noticed": Noticed(test="test_a.py::test_1", how="test")})
    second = second.model_copy(update={"noticed": Noticed(test="test_b.py::test_2", how="test")})
    names = {each.id for each in (first, second, survived)}

    def key_of(baseline: Baseline) -> Callable[[SweepResult], str]:
        return lambda result: baseline.key(result.noticed.test if result.noticed else None)

    with KeptResults(tmp_path, key_of(before)) as kept:
        kept.begin(names, {})
        for result in (first, second, survived):
            kept.add(result)
        assert kept.take_up(names).keys() == names
    with KeptResults(tmp_path, key_of(after)) as kept:
        assert kept.noticed_by == {first.id: "test_a.py::test_1", second.id: "test_b.py::test_2"}
        taken = kept.take_up(names)
        assert taken == {first.id: first}
        kept.begin(names, taken)
    with KeptResults(tmp_path, key_of(after)) as kept:
        assert kept.noticed_by == {first.id: "test_a.py::test_1", second.id: "test_b.py::test_2"}
        kept.begin(names, {})
    with KeptResults(tmp_path, key_of(after)) as kept:
        assert kept.take_up(names) == {}


def test_smaller_sweep_leaves_an_interrupted_one(tmp_path: Path) -> None:
    """A sweep of other mutants that ends in between does not lose what was kept."""
    caught, survived = results(CheckOutcome.CAUGHT, CheckOutcome.SURVIVED)
    both = {caught.id, survived.id}
    with KeptResults(tmp_path, the_key) as kept:
        kept.begin(both, {})
        kept.add(caught)
    with KeptResults(tmp_path, the_key) as kept:
        kept.begin({survived.id}, kept.take_up({survived.id}))
        kept.add(survived)
        kept.finish()
    with KeptResults(tmp_path, the_key) as kept:
        assert kept.take_up(both) == {caught.id: caught}
        assert kept.before == {survived.id: CheckOutcome.SURVIVED}
