# SPDX-License-Identifier: GPL-2.0-only
"""A sweep without guests: which tests run, what their results mean, and the page."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.report.terminal import Terminal
from harness.tools.mutants.sweep.baseline import (
    Baseline,
    TestFacts,
)
from harness.tools.mutants.sweep.choose import choose, sample
from harness.tools.mutants.sweep.dispatch import NEVER_DIFFERS, Task
from harness.tools.mutants.sweep.likely_tests import LikelyTests
from harness.tools.mutants.sweep.page import sweep_page
from harness.tools.mutants.sweep.results import BY_OBJECT
from harness.tools.mutants.sweep.scores import score
from harness.tools.mutants.sweep.terminal import print_result, print_summary, table
from tests.unit.sweep_maker import (
    AT_BOOT,
    CALL,
    FILE,
    MUTANTS,
    NEGATED,
    QUICK,
    SLOW,
    SOURCE,
    baseline,
    dispatch,
    explained,
    play,
    ran,
    results,
)

if TYPE_CHECKING:
    from harness.tools.mutants.sweep.candidates import Candidate


def test_the_quicker_test_runs_first_and_ends_it() -> None:
    """A mutant is caught by its first failing test; no other runs."""
    (found,) = play(
        dispatch(NEGATED), {QUICK: [ran(QUICK, CheckOutcome.FAILED, reason="no", rules=("TR-01",))]}
    )
    assert found.outcome is CheckOutcome.CAUGHT
    assert found.noticed is not None
    assert (found.noticed.test, found.noticed.how, found.noticed.reason) == (QUICK, "test", "no")
    assert found.noticed.rules == ("TR-01",)
    assert (found.reached, found.differs) == (3, 2)
    assert "+\tif (!(a))" in found.diff


def test_survivor_has_passed_all_that_could_notice() -> None:
    """A test that fails without a mutant runs on none."""
    (found,) = play(dispatch(CALL), {QUICK: [ran(QUICK)], SLOW: [ran(SLOW)]})
    assert found.outcome is CheckOutcome.SURVIVED
    assert found.ran == (QUICK, SLOW)
    assert found.is_gap
    assert found.seconds == 4.0


@pytest.mark.parametrize(
    ("ended_by", "how"),
    [("KernelSplat", "splat"), ("GuestPanic", "panic"), ("GuestHang", "hang"), (None, "test")],
)
def test_how_a_guest_ended_is_told_apart(ended_by: str | None, how: str) -> None:
    """A splat, a panic and a hang are results, and say how the mutant was noticed."""
    (found,) = play(dispatch(CALL), {QUICK: [ran(QUICK, CheckOutcome.FAILED, ended_by=ended_by)]})
    assert found.noticed is not None
    assert found.noticed.how == how


def test_lost_agent_is_the_mutants_when_it_happens_twice() -> None:
    """The harness may lose a guest for its own reasons; not twice in a test that passes else."""
    lost = ran(QUICK, CheckOutcome.ERROR, ended_by="LostConnection")
    (found,) = play(dispatch(CALL), {QUICK: [lost, lost]})
    assert found.noticed is not None
    assert found.noticed.how == "agent"
    once = play(dispatch(CALL), {QUICK: [lost, ran(QUICK)], SLOW: [ran(SLOW)]})
    assert [each.outcome for each in once] == [CheckOutcome.SURVIVED]


def test_no_end_in_time_is_noticed_when_it_happens_twice() -> None:
    """A mutant that hangs a test beyond its limit is noticed, and does not end the sweep."""
    (found,) = play(dispatch(CALL), {QUICK: [None, None]})
    assert found.outcome is CheckOutcome.CAUGHT
    assert found.noticed is not None
    assert found.noticed.how == "timeout"


@pytest.mark.parametrize(("used_s", "tries"), [(30.0, 1), (7.0, 2)])
def test_guest_that_spins_is_no_starved_one(used_s: float, tries: int) -> None:
    """On a busy host both seem to get no CPU: the one that spins has used more than the test."""
    starved = ran(QUICK, CheckOutcome.ERROR, ended_by="GuestStarved", cpu_s=used_s)
    (found,) = play(dispatch(CALL, of=baseline(cpu_s=1.0)), {QUICK: [starved] * tries})
    assert found.noticed is not None
    assert found.noticed.how == "hang"


@pytest.mark.parametrize(
    ("used_s", "ended_by", "of"),
    [
        (2.0, "GuestStarved", baseline(cpu_s=1.0)),
        (30.0, "QemuFailed", baseline(cpu_s=1.0)),
        (30.0, "GuestStarved", baseline()),
    ],
)
def test_starved_guest_judges_nothing(used_s: float, ended_by: str, of: Baseline) -> None:
    """Little CPU time, another error, or a test of which the time is not known."""
    lost = ran(QUICK, CheckOutcome.ERROR, ended_by=ended_by, cpu_s=used_s)
    slow = lost.model_copy(update={"test": SLOW})
    (found,) = play(dispatch(CALL, of=of), {QUICK: [lost, lost], SLOW: [slow, slow]})
    assert found.outcome is CheckOutcome.ERROR


def test_errors_of_the_harness_judge_nothing() -> None:
    """What the harness failed is tried again, and is then an error unless a test notices."""
    broken = ran(QUICK, CheckOutcome.ERROR, ended_by="NoSpace", reason="no space")
    (found,) = play(dispatch(CALL), {QUICK: [broken, broken], SLOW: [ran(SLOW)]})
    assert (found.outcome, found.detail) == (CheckOutcome.ERROR, "no space")
    (found,) = play(
        dispatch(CALL), {QUICK: ["gone", "gone"], SLOW: [ran(SLOW, CheckOutcome.FAILED)]}
    )
    assert found.outcome is CheckOutcome.CAUGHT


def test_mutant_that_looks_like_a_busy_host_is_given_up() -> None:
    """Its tests do not all run into the same error, one by one."""
    names = [f"a/test_a.py::test_{number}" for number in range(10)]
    facts = baseline().tests[QUICK]
    starved = [
        ran(name, CheckOutcome.ERROR, ended_by="GuestStarved", reason="starved") for name in names
    ]
    of = Baseline(tests=dict.fromkeys(names, facts))
    (found,) = play(
        dispatch(CALL, of=of),
        {name: [each, each] for name, each in zip(names[:3], starved, strict=False)},
    )
    assert (found.outcome, found.detail) == (CheckOutcome.ERROR, "starved")


def test_what_needs_no_guest() -> None:
    """Uncovered, never different, proved equivalent: known at once."""
    of = baseline(quick=(CALL,), slow=(CALL,), broken=())
    found = {each.id: each for each in dispatch(*MUTANTS, of=of).known()}
    assert found[NEGATED.name].outcome is CheckOutcome.SURVIVED
    assert found[NEGATED.name].detail == NEVER_DIFFERS
    assert CALL.name not in found
    # Nothing is recorded while the kernel boots.
    assert AT_BOOT.name not in found
    nobody = Baseline(tests={QUICK: TestFacts(outcome=CheckOutcome.PASSED, seconds=1)})
    (alone,) = dispatch(CALL, of=nobody).known()
    assert alone.outcome is CheckOutcome.UNCOVERED
    (proved,) = dispatch(CALL, known=explained(CALL)).known()
    assert (proved.outcome, proved.detail) == (CheckOutcome.EQUIVALENT, "since")


def test_same_object_file_is_equivalent() -> None:
    """The object files are compared before any test runs."""
    sweep = dispatch(CALL, NEGATED, compare=True)
    tasks = sweep.tasks()
    first = next(tasks)
    assert first == Task(mutant=CALL)
    found = sweep.compared(first, is_same=True)
    assert found is not None
    assert (found.outcome, found.detail) == (CheckOutcome.EQUIVALENT, BY_OBJECT)
    second = next(tasks)
    assert second == Task(mutant=NEGATED)
    assert sweep.compared(second, is_same=False) is None
    assert next(tasks) == Task(mutant=NEGATED, test=QUICK)


def test_one_guest_a_mutant_while_others_wait() -> None:
    """A test that would not have been needed costs other mutants their guest."""
    sweep = dispatch(NEGATED, CALL, guests=4)
    tasks = sweep.tasks()
    begun = [next(tasks) for _ in range(2)]
    assert [task.mutant for task in begun] == [NEGATED, CALL]
    # Nothing is left to begin with: the rest of their tests share the guests.
    assert next(tasks) == Task(mutant=NEGATED, test=SLOW)
    assert next(tasks) == Task(mutant=CALL, test=SLOW)


def test_others_run_beside_a_test_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """After twice its usual time and ten seconds a test needs no guest for itself."""
    now_s = 1000.0
    monkeypatch.setattr("harness.tools.mutants.sweep.dispatch.time.monotonic", lambda: now_s)
    sweep = dispatch(NEGATED, CALL, guests=1)
    tasks = sweep.tasks()
    first = next(tasks)
    assert first == Task(mutant=NEGATED, test=QUICK)
    others: list[Task] = []
    begun = threading.Event()

    def take() -> None:
        others.append(next(tasks))
        begun.set()

    threading.Thread(target=take, daemon=True).start()
    now_s += 12.0
    assert not begun.wait(0.7), "12 s are as long as it may take"
    now_s += 0.1
    assert begun.wait(30)
    assert others == [Task(mutant=CALL, test=QUICK)]
    # It ends after all, and the other one has the guest.
    assert sweep.ended(first, ran(QUICK)) is None
    found = sweep.ended(others[0], ran(QUICK, CheckOutcome.FAILED))
    assert found is not None
    assert next(tasks) == Task(mutant=NEGATED, test=SLOW)


def test_what_a_test_noticed_is_learned_from() -> None:
    """Each run counts, and each that noticed, so that the next mutants begin with what helps."""
    learned: list[tuple[str, str]] = []

    class Learning(LikelyTests):
        def ran(self, mutant: Candidate, test: str) -> None:
            learned.append(("ran", test))

        def noticed(self, mutant: Candidate, test: str) -> None:
            learned.append(("noticed", test))

    sweep = dispatch(NEGATED, guests=1, likely=Learning(baseline()))
    play(sweep, {QUICK: [ran(QUICK)], SLOW: [ran(SLOW, CheckOutcome.FAILED)]})
    assert learned == [("ran", QUICK), ("ran", SLOW), ("noticed", SLOW)]


def test_what_no_test_reaches_is_compared_too() -> None:
    """What compiles to the same is equivalent even where no test would reach it."""
    sweep = dispatch(CALL, of=Baseline(tests={}), compare=True)
    assert list(sweep.known()) == []
    found = sweep.compared(next(sweep.tasks()), is_same=True)
    assert found is not None
    assert found.outcome is CheckOutcome.EQUIVALENT
    sweep = dispatch(CALL, of=Baseline(tests={}), compare=True)
    assert list(sweep.known()) == []
    found = sweep.compared(next(sweep.tasks()), is_same=False)
    assert found is not None
    assert found.outcome is CheckOutcome.UNCOVERED


def test_choice_of_mutants() -> None:
    """By name, by file, by operator; consecutive samples go through all."""
    assert choose(MUTANTS, names=[CALL.name]) == (CALL,)
    assert choose(MUTANTS, files=["patch.c"]) == MUTANTS
    assert choose(MUTANTS, files=["kernel/livepatch"]) == MUTANTS
    assert choose(MUTANTS, operators=[CALL.operator]) == (CALL, AT_BOOT)
    parts = [each for seed in range(5) for each in sample(MUTANTS, 1, seed)]
    assert sorted(each.number for each in parts) == [1, 2, 3, 4, 5]
    wrongs: list[dict[str, Any]] = [{"names": ["patch-5-delete-cal"]}, {"files": ["atch.c"]}]
    for wrong in wrongs:
        with pytest.raises(UsageError) as caught:
            choose(MUTANTS, **wrong)
        assert caught.value.hint is None or CALL.name in caught.value.hint


def test_scores_leave_equivalents_out() -> None:
    """The share is of those that a test could notice."""
    found = results(
        CheckOutcome.CAUGHT,
        CheckOutcome.SURVIVED,
        CheckOutcome.UNCOVERED,
        CheckOutcome.EQUIVALENT,
        CheckOutcome.ERROR,
    )
    total = score("all", found)
    assert (total.judged, total.caught, total.percent) == (3, 1, "33.3")
    assert score("none", []).percent == "-"
    assert "33.3" in table(found)[-1]


def test_page_and_terminal_show_survivors_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Their diffs come before the scores and the source; each line has its worst outcome."""
    found = results(CheckOutcome.CAUGHT, CheckOutcome.SURVIVED, CheckOutcome.UNCOVERED)
    page = sweep_page(found, {FILE: SOURCE, "other.c": b""}, "6.1 <x>")
    assert page.index(f"{found[1].id} survived") < page.index("By file")
    assert page.index("By file") < page.index('<tr class="survived"><td class="number"')
    assert "6.1 &lt;x&gt;" in page
    assert "other.c" not in page
    terminal = Terminal()
    for each in found:
        print_result(terminal, each)
    print_summary(terminal, found)
    shown = capsys.readouterr().out
    removed = re.search(r"^-\s+call\(a\);$", shown, re.MULTILINE)
    assert removed is not None
    assert shown.index(f"survived: {found[1].id}") < removed.start()
    assert json.loads(found[0].model_dump_json())["operator"] == "negate-condition"
