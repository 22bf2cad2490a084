# SPDX-License-Identifier: GPL-2.0-only
"""A sweep without guests: which tests run, what their results mean, what is kept, the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.report.base import CheckOutcome
from harness.report.terminal import Terminal
from harness.resources import Resource, resource_dir
from harness.tools.mutants.sweep import baseline as baseline_module
from harness.tools.mutants.sweep.baseline import (
    Baseline,
    TestFacts,
    chosen_tests,
    facts_of,
    obtain_baseline,
)
from harness.tools.mutants.sweep.candidates import Operator
from harness.tools.mutants.sweep.choose import choose, sample
from harness.tools.mutants.sweep.dispatch import BY_OBJECT, NEVER_DIFFERS, Dispatch, Task
from harness.tools.mutants.sweep.explained import NAME, Explained, match, read_explained
from harness.tools.mutants.sweep.kept import KeptResults
from harness.tools.mutants.sweep.likely_tests import LikelyTests
from harness.tools.mutants.sweep.messages import Job, Ran
from harness.tools.mutants.sweep.page import sweep_page
from harness.tools.mutants.sweep.parse import candidates
from harness.tools.mutants.sweep.results import Noticed
from harness.tools.mutants.sweep.schema import RECORD
from harness.tools.mutants.sweep.scores import changed, score
from harness.tools.mutants.sweep.terminal import print_result, print_summary, table
from harness.vm.host.cache import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.tools.mutants.sweep.results import SweepResult

FILE = "kernel/livepatch/patch.c"
SOURCE = b"""// SPDX-License-Identifier: GPL-2.0-only
int first(int a)
{
	if (a)
		call(a);
	return 0;
}

static int __init second(int a)
{
	call(a);
	return 0;
}
"""
# negate-condition, delete-call, zero-to-error; of second(): delete-call, zero-to-error.
MUTANTS = candidates({FILE: SOURCE})
NEGATED, CALL, ZERO, AT_BOOT, _ = MUTANTS
QUICK, SLOW, BROKEN = "a/test_a.py::test_quick", "a/test_a.py::test_slow", "b/test_b.py::test_no"


def baseline(cpu_s: float = 0.0, **differs: tuple[Candidate, ...]) -> Baseline:
    """Return one in which the tests reach all of first(), and some mutants make a difference."""
    reached = frozenset(each.number for each in (NEGATED, CALL, ZERO))

    def facts(name: str, seconds: float, outcome: CheckOutcome) -> TestFacts:
        found = frozenset(each.number for each in differs.get(name, (NEGATED, CALL, ZERO)))
        return TestFacts(
            outcome=outcome, seconds=seconds, cpu_s=cpu_s, reached=reached, differs=found
        )

    return Baseline(
        tests={
            QUICK: facts("quick", 1.0, CheckOutcome.PASSED),
            SLOW: facts("slow", 20.0, CheckOutcome.EXPECTED_FAILURE),
            BROKEN: facts("broken", 1.0, CheckOutcome.FAILED),
        }
    )


def dispatch(*mutants: Candidate, of: Baseline | None = None, **more: Any) -> Dispatch:
    settings: dict[str, Any] = {
        "sources": {FILE: SOURCE},
        "guests": 2,
        "compare": False,
    } | more
    return Dispatch(mutants, of or baseline(), **settings)


def explained(
    *mutants: Candidate, kind: Literal["equivalent", "needs"] = "equivalent"
) -> dict[str, Explained]:
    return {
        each.name: Explained(
            file=each.file,
            function=each.function,
            operator=each.operator.value,
            code=SOURCE.splitlines()[each.line - 1].decode().strip(),
            kind=kind,
            why="since",
        )
        for each in mutants
    }


def ran(test: str, outcome: CheckOutcome = CheckOutcome.PASSED, **more: Any) -> Ran:
    return Ran(test=test, outcome=outcome, seconds=2.0, **more)


def play(sweep: Dispatch, answers: dict[str, list[Ran | str | None]]) -> list[SweepResult]:
    """Give each test its answers in turn: a result, None for no end in time, a text for a loss."""
    results = list(sweep.known())
    for task in sweep.tasks():
        assert task.test is not None
        answer = answers[task.test].pop(0)
        lost = answer if isinstance(answer, str) else None
        found = sweep.ended(task, answer if isinstance(answer, Ran) else None, lost=lost)
        results += [found] if found is not None else []
    return results


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


def test_survivor_that_is_explained_is_no_gap() -> None:
    """What is known to need more than guests have may survive, and fails no command.

    It runs only when it is named.
    """
    known = explained(CALL, kind="needs")
    (unrun,) = play(dispatch(CALL, known=known), {})
    assert (unrun.outcome, unrun.detail) == (CheckOutcome.SURVIVED, "not run: since")
    assert unrun.is_excused
    assert not unrun.is_gap
    named = (CALL.name,)
    (found,) = play(
        dispatch(CALL, known=known, named=named), {QUICK: [ran(QUICK)], SLOW: [ran(SLOW)]}
    )
    assert (found.outcome, found.detail) == (CheckOutcome.SURVIVED, "since")
    assert found.is_excused
    assert not found.is_gap
    (noticed,) = play(
        dispatch(CALL, known=known, named=named),
        {QUICK: [ran(QUICK, CheckOutcome.FAILED)], SLOW: []},
    )
    assert (noticed.outcome, noticed.explained) == (CheckOutcome.CAUGHT, False)


def test_explained_mutants_are_found_by_their_code() -> None:
    """Lines move between kernels; file, function, operator and the code stay."""
    moved = SOURCE.replace(b"int first", b"\n\n\nint first")
    (call, *_) = choose(candidates({FILE: moved}), operators=[CALL.operator])
    (known,) = explained(CALL).values()
    assert match([call], {FILE: moved}, [known]) == {call.name: known}
    after = known.model_copy(update={"after": "if (a)"})
    assert match([call], {FILE: moved}, [after]) == {call.name: after}
    assert call.name != CALL.name
    for other in (
        {"function": "second"},
        {"code": "call(b);"},
        {"new": "call(b);"},
        {"after": "if (b)"},
    ):
        assert match([call], {FILE: moved}, [known.model_copy(update=other)]) == {}


def test_an_entry_that_fits_more_lines_than_it_says_is_used_for_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A proof of one line is none of another line with the same code; the warning names both."""
    source = SOURCE.replace(b"\tcall(a);", b"\tcall(a);\n\tcall(b);\n\tcall(a);")
    found = candidates({FILE: source})
    (known,) = explained(CALL).values()
    assert match(found, {FILE: source}, [known]) == {}
    (text,) = [record.getMessage() for record in caplog.records]
    assert "first()" in text
    assert f"`{known.code}` on the lines {CALL.line}, {CALL.line + 2}" in text
    (one,) = match(found, {FILE: source}, [known.model_copy(update={"after": "call(b);"})])
    assert one.split("-")[1] == str(CALL.line + 2)
    both = match(found, {FILE: source}, [known.model_copy(update={"lines": 2})])
    assert len(both) == 2


def test_one_of_several_alike_on_a_line() -> None:
    """``nth`` selects it; one that is not there is none."""
    source = SOURCE.replace(b"\tcall(a);", b"\tcall(0, 0);", 1)
    both = [each for each in candidates({FILE: source}) if each.operator is Operator.OFF_BY_ONE]
    assert [each.new for each in both] == ["(0 + 1)"] * 2
    known = Explained(
        file=FILE,
        function="first",
        operator="off-by-one",
        code="call(0, 0);",
        kind="equivalent",
        why="since",
    )
    for nth, names in (
        (None, [each.name for each in both]),
        (2, [both[1].name]),
        (3, []),
    ):
        known = known.model_copy(update={"nth": nth})
        assert list(match(both, {FILE: source}, [known])) == names


def test_list_of_explained_mutants_can_be_read(tmp_path: Path) -> None:
    """The project's own list has no entry twice; a damaged one is refused in a sentence."""
    listed = read_explained(resource_dir(Resource.KERNEL_MUTANTS) / NAME)
    places = [each.model_dump_json(exclude={"why", "kind"}) for each in listed]
    assert len(places) == len(set(places)) > 0
    (tmp_path / NAME).write_text("[[mutant]]\nfile = 1\n")
    with pytest.raises(UsageError, match="no list of explained mutants"):
        read_explained(tmp_path / NAME)


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


def results(*outcomes: CheckOutcome) -> list[SweepResult]:
    made = list(dispatch(*MUTANTS, known=explained(*MUTANTS)).known())
    return [
        result.model_copy(update={"outcome": outcome, "detail": None})
        for result, outcome in zip(made, outcomes, strict=False)
    ]


def test_interrupted_sweep_is_taken_up(tmp_path: Path) -> None:
    """Results are kept as they come; a line that was cut off, and errors, are made again."""
    caught, gone, failed = results(CheckOutcome.CAUGHT, CheckOutcome.SURVIVED, CheckOutcome.ERROR)
    names = {each.id for each in (caught, gone, failed)}
    with KeptResults(tmp_path / "kept", "key") as kept:
        assert kept.take_up(names) == {}
        kept.begin(names, {})
        for result in (caught, failed, gone):
            kept.add(result)
    file = tmp_path / "kept" / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    with KeptResults(tmp_path / "kept", "key") as kept:
        assert kept.take_up(names) == {caught.id: caught}
        assert kept.take_up({gone.id}) == {}
        with pytest.raises(UsageError, match="another sweep"), KeptResults(kept.folder, "key"):
            pass
    with KeptResults(tmp_path / "kept", "another kernel") as kept:
        assert kept.take_up(names) == {}


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


def test_explained_of_a_series() -> None:
    """What is said of some kernels is not said of others."""
    (known,) = explained(CALL).values()
    only = known.model_copy(update={"series": ("6.1",)})
    sources = {FILE: SOURCE}
    assert match([CALL], sources, [only], series="6.1") == {CALL.name: only}
    assert match([CALL], sources, [only], series="6.12") == {}
    assert match([CALL], sources, [known], series="6.12") == {CALL.name: known}


def test_sweep_that_ended_is_what_the_next_is_compared_with(tmp_path: Path) -> None:
    """After the end nothing is taken up, and the outcomes are those of the last sweep."""
    (caught,) = results(CheckOutcome.CAUGHT)
    caught = caught.model_copy(update={"noticed": Noticed(test=QUICK, how="test")})
    with KeptResults(tmp_path, "key") as kept:
        kept.begin({caught.id}, {})
        kept.add(caught)
        kept.finish()
    with KeptResults(tmp_path, "key") as kept:
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
    with KeptResults(tmp_path, "key") as kept:
        kept.begin(both, {})
        kept.add(caught)
        kept.add(survived)
        assert kept.take_up(both, ()).keys() == both
        assert kept.take_up(both, both) == {caught.id: caught}


def test_smaller_sweep_leaves_an_interrupted_one(tmp_path: Path) -> None:
    """A sweep of other mutants that ends in between does not lose what was kept."""
    caught, survived = results(CheckOutcome.CAUGHT, CheckOutcome.SURVIVED)
    both = {caught.id, survived.id}
    with KeptResults(tmp_path, "key") as kept:
        kept.begin(both, {})
        kept.add(caught)
    with KeptResults(tmp_path, "key") as kept:
        kept.begin({survived.id}, kept.take_up({survived.id}))
        kept.add(survived)
        kept.finish()
    with KeptResults(tmp_path, "key") as kept:
        assert kept.take_up(both) == {caught.id: caught}
        assert kept.before == {survived.id: CheckOutcome.SURVIVED}


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
