# SPDX-License-Identifier: GPL-2.0-only
"""models compare: the order of its trials, its verdicts, and what becomes of a trial's findings."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.agent_protocol import KlogRecord
from harness.errors import (
    GuestPanic,
    HarnessError,
    KernelDoesNotBoot,
    KernelVerdict,
    LostGuest,
    UsageError,
    guest_error,
)
from harness.report.base import CheckOutcome
from harness.tools.models import compare as compare_module
from harness.tools.models.bench_guest import Ended, count_switches, span_s
from harness.tools.models.catalogue import LINUX, NO_RELIABLE_STACK
from harness.tools.models.cells import Cell
from harness.tools.models.compare import (
    MEASURES,
    Collected,
    Measure,
    Prepared,
    Tried,
    compare,
    try_one,
)
from harness.tools.models.compare_command import _measures
from harness.tools.models.findings import Finding, ending, judge_both, judge_data, judge_mixed
from harness.tools.models.measures_limits import _last_pid
from harness.tools.models.results import ComparedResult, Leave, Switch
from harness.tools.models.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.guest.machine import Machine

NULL = Cell(leave=Leave.FUNCTION, switch=Switch.FUNCTION)
THREAD = Cell(leave=Leave.PATCHED_SET, switch=Switch.THREAD)
KERNEL = Cell(leave=Leave.PATCHED_SET, switch=Switch.KERNEL)
ALONE = Measure(name="load", rows=("time-load",), take=lambda _: iter(()), alone=True)
BESIDE = Measure(name="consistency", rows=("both", "mixed"), take=lambda _: iter(()))


def records(*texts: str) -> list[KlogRecord]:
    """Records of the kernel log, a second apart."""
    return [
        KlogRecord(seq=number, us=number * 1_000_000, level=6, text=text)
        for number, text in enumerate(texts)
    ]


def tried(measure: Measure, *findings: Finding, error: Exception | None = None) -> Tried:
    return Tried(model="linux", measure=measure, findings=findings, seconds=2.0, error=error)


def results(*trials: Tried) -> dict[str, ComparedResult]:
    collected = Collected(["linux", "null"])
    for each in trials:
        collected.add(each)
    return {result.row: result for result in collected.results()}


def test_a_time_is_between_two_records() -> None:
    """The time of a transition counts from the last word before it to the first one after."""
    log = records("patching complete", "livepatch: enabling patch 'a'", "x", "patching complete")
    assert span_s(log, "enabling patch", "patching complete") == pytest.approx(2.0)


@pytest.mark.parametrize("texts", [("enabling patch",), ("patching complete",)])
def test_a_missing_record_is_the_kernels_fault(texts: tuple[str, ...]) -> None:
    """A kernel that does not log a transition fails, and the missing words are named."""
    with pytest.raises(KernelVerdict, match="did not log"):
        span_s(records(*texts), "enabling patch", "patching complete")


def test_context_switches_are_counted_by_thread() -> None:
    """Voluntary and other switches of a thread are added, and those of others are not."""
    found = count_switches(
        [
            "/proc/7/task/8/status:voluntary_ctxt_switches:\t3",
            "/proc/7/task/8/status:nonvoluntary_ctxt_switches:\t2",
            "/proc/7/task/9/status:voluntary_ctxt_switches:\t1",
        ]
    )
    assert found == {8: 5, 9: 1}


def test_what_is_no_count_is_an_error_of_the_harness() -> None:
    """A line of grep that has no count is not skipped: the number would be too small."""
    with pytest.raises(HarnessError, match="no count"):
        count_switches(["grep: /proc/7/task/8/status: No such file"])


def test_the_newest_process_is_the_last_field() -> None:
    """/proc/loadavg ends with the id of the newest process."""
    assert _last_pid("0.20 0.18 0.12 1/80 11206\n") == 11206


def test_mixed_pairs_are_what_null_alone_may_have() -> None:
    """A mixed pair fails a model that promises none; none fails null, for which it is to be seen.

    So the oracle is shown to see what it looks for.
    """
    assert judge_mixed(THREAD, 0) is None
    assert "1 calls" in str(judge_mixed(THREAD, 1))
    assert judge_mixed(NULL, 3) is None
    assert "no mixed pair was shown" in str(judge_mixed(NULL, 0))


def test_old_and_new_at_once_tells_switch_thread_from_switch_kernel() -> None:
    """Where threads switch it has to be seen; where the kernel switches it must not be."""
    assert judge_both(THREAD, both=True) is None
    assert judge_both(THREAD, both=False)
    assert judge_both(KERNEL, both=False) is None
    assert judge_both(KERNEL, both=True)


def test_data_read_wrongly_fail_all_but_null() -> None:
    """Where nobody waits for old functions, they misread what was converted; and only there."""
    assert judge_data(KERNEL, "6000", "6000") == ("works", None)
    words, wrong = judge_data(KERNEL, "6100000", "6000")
    assert words == wrong == "breaks: an old function read 6100000 in place of 6000"
    assert judge_data(NULL, "6100000", "6000") == (words, None)
    assert judge_data(NULL, "6000", "6000")[1]


def test_a_transition_without_an_end_is_a_finding() -> None:
    """It is no error, and says who held it."""
    found = ending("in-use", Ended(seconds=None, why="klp-gate (9) is inside f()"))
    assert found.value is None
    assert found.never == "not within 45 s: klp-gate (9) is inside f()"
    assert ending("in-use", Ended(seconds=1.5)).value == 1.5


def test_values_of_all_rounds_come_together() -> None:
    """A row has the values of each round, their median, and passes."""
    found = results(*(tried(ALONE, Finding(row="time-load", value=value)) for value in (3, 1, 2)))
    row = found["time-load"]
    assert (row.values, row.median, row.outcome) == ((3, 1, 2), 2, CheckOutcome.PASSED)
    assert row.seconds == pytest.approx(6.0)
    assert row.id == "time-load/linux"


def test_a_broken_promise_fails_its_row_alone() -> None:
    """A row that was not as promised fails, and says what was seen; its neighbour does not."""
    found = results(
        tried(
            BESIDE,
            Finding(row="both", says="yes"),
            Finding(row="mixed", value=1, wrong="1 calls mixed"),
        )
    )
    assert found["both"].outcome is CheckOutcome.PASSED
    assert found["mixed"].outcome is CheckOutcome.FAILED
    assert found["mixed"].detail == "1 calls mixed"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (GuestPanic("panicked"), CheckOutcome.FAILED),
        (guest_error(errno.EBUSY, None, "enabled"), CheckOutcome.FAILED),
        (LostGuest("QEMU was killed"), CheckOutcome.ERROR),
        (TimeoutError("too slow"), CheckOutcome.ERROR),
        (KernelDoesNotBoot("no user space"), CheckOutcome.DOES_NOT_BOOT),
    ],
    ids=lambda value: getattr(value, "message", None) or str(value),
)
def test_a_guest_that_ends_early_fails_what_it_did_not_reach(
    error: Exception, outcome: CheckOutcome
) -> None:
    """By whose fault it ended; a row that was found before keeps its finding."""
    found = results(tried(BESIDE, Finding(row="both", says="yes"), error=error))
    assert found["both"].outcome is CheckOutcome.PASSED
    assert found["mixed"].outcome is outcome
    assert found["mixed"].detail


def test_an_error_after_all_findings_is_not_lost() -> None:
    """A splat at the very end is of the trial's last row."""
    findings = (Finding(row="both", says="yes"), Finding(row="mixed", value=0))
    found = results(tried(BESIDE, *findings, error=GuestPanic("panicked")))
    assert found["mixed"].outcome is CheckOutcome.FAILED


def prepared(name: str) -> Prepared:
    model = {"linux": LINUX, "no-reliable-stack": NO_RELIABLE_STACK}[name]
    return Prepared(model=model, modules={}, guest=lambda *_: contextlib.nullcontext(_NoGuest()))


class _NoGuest:
    """A machine of which only the end of a trial asks something."""

    def check_splats(self) -> None:
        """Find none."""


def takes(monkeypatch: pytest.MonkeyPatch, found: dict[tuple[str, str], Tried]) -> list[str]:
    """Have trials return what is given, else nothing; return the list of what was tried."""
    order: list[str] = []

    def take(each: Prepared, measure: Measure) -> Tried:
        order.append(f"{measure.name} {each.model.name}")
        nothing = Tried(model=each.model.name, measure=measure, findings=(), seconds=0.0)
        return found.get((measure.name, each.model.name), nothing)

    monkeypatch.setattr(compare_module, "try_one", take)
    return order


def test_models_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round goes through the models measure by measure; what takes no time comes once, last.

    So a machine that grows slower makes all models slower, and not the last one alone.
    """
    order = takes(monkeypatch, {})
    models = [prepared("linux"), prepared("no-reliable-stack")]
    list(compare(models, (BESIDE, ALONE), rounds=2, at_a_time=1))
    assert order == [
        *["load linux", "load no-reliable-stack"] * 2,
        "consistency linux",
        "consistency no-reliable-stack",
    ]


def test_what_never_ends_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second wait in vain would say nothing new."""
    never = tried(ALONE, Finding(row="time-load", never="not within 45 s: x"))
    order = takes(monkeypatch, {("load", "linux"): never})
    list(compare([prepared("linux")], (ALONE,), rounds=3, at_a_time=1))
    assert order == ["load linux"]


def test_a_kernel_that_does_not_boot_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not booted again for each measure, and the others go on."""
    dead = tried(ALONE, error=KernelDoesNotBoot("no user space"))
    order = takes(monkeypatch, {("load", "linux"): dead})
    models = [prepared("linux"), prepared("no-reliable-stack")]
    list(compare(models, (ALONE, BESIDE), rounds=1, at_a_time=1))
    assert order == ["load linux", "load no-reliable-stack", "consistency no-reliable-stack"]


def test_what_the_host_broke_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that got no CPU is no result yet; a guest that panicked is one."""
    lost, panicked = tried(BESIDE, error=LostGuest("killed")), tried(ALONE, error=GuestPanic("x"))
    order = takes(monkeypatch, {("consistency", "linux"): lost, ("load", "linux"): panicked})
    found = list(compare([prepared("linux")], (ALONE, BESIDE), rounds=2, at_a_time=1))
    assert order == ["load linux", "consistency linux", "consistency linux"]
    assert [each.error for each in found] == [panicked.error, lost.error]


def test_a_model_without_hope_is_not_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no transition ends with hardly a task asleep, the wait of other times is spared.

    They say so, with the reason; what is no time is tried all the same.
    """
    tasks = Measure(name="tasks", rows=("time-10",), take=lambda _: iter(()), alone=True)
    never = tried(tasks, Finding(row="time-10", never="not within 45 s: kernel threads"))
    order = takes(monkeypatch, {("tasks", "linux"): never})
    found = list(compare([prepared("linux")], (tasks, ALONE, BESIDE), rounds=2, at_a_time=1))
    assert order == ["tasks linux", "consistency linux"]
    ends = tried(tasks, Finding(row="time-10", value=1.0))
    other = takes(monkeypatch, {("tasks", "linux"): ends})
    list(compare([prepared("linux")], (tasks, ALONE), rounds=1, at_a_time=1))
    assert other == ["tasks linux", "load linux"]
    assert found[1].findings[0].never == (
        "not tried: with 10 tasks asleep or fewer it was not within 45 s: kernel threads"
    )


def test_those_that_wait_run_beside_those_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what runs at the same time no two are the same measure, and none is left out."""
    order = takes(monkeypatch, {})
    names = ("world", "access", "woken")
    measures = [Measure(name=name, rows=("both",), take=lambda _: iter(())) for name in names]
    list(
        compare([prepared("linux"), prepared("no-reliable-stack")], measures, rounds=1, at_a_time=1)
    )
    assert order[0].split()[0] != order[1].split()[0]
    assert sorted(order) == sorted(
        f"{name} {model}" for name in names for model in ("linux", "no-reliable-stack")
    )


def test_a_measure_may_be_taken_in_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that gives several values is not needed in every round."""
    order = takes(monkeypatch, {})
    few = Measure(name="x", rows=("both",), take=lambda _: iter(()), alone=True, most_rounds=1)
    list(compare([prepared("linux")], (ALONE, few), rounds=2, at_a_time=1))
    assert order == ["load linux", "x linux", "load linux"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials without a guest: what they measure is given."""
    monkeypatch.setattr(compare_module, "BenchGuest", lambda *_: None)


@pytest.mark.usefixtures("bench")
def test_findings_before_the_end_of_a_guest_are_kept() -> None:
    """A trial returns what it found and what ended it; an error of the host is not its own."""

    def take(_: Any) -> Iterator[Finding]:
        yield Finding(row="both", says="yes")
        raise GuestPanic("panicked")

    def full(_: Any) -> Iterator[Finding]:
        raise OSError(errno.EMFILE, "too many open files")
        yield

    measure = Measure(name="consistency", rows=("both", "mixed"), take=take)
    found = try_one(prepared("linux"), measure)
    assert [each.row for each in found.findings] == ["both"]
    assert isinstance(found.error, GuestPanic)
    with pytest.raises(OSError, match="too many"):
        try_one(prepared("linux"), Measure(name="x", rows=("both",), take=full))


def test_a_guest_that_does_not_start_is_an_error_of_its_trial() -> None:
    """The comparison goes on without it."""

    @contextlib.contextmanager
    def guest(*_: Any) -> Iterator[Machine]:
        raise LostGuest("QEMU was killed")
        yield cast("Machine", None)

    found = try_one(Prepared(model=LINUX, modules={}, guest=guest), ALONE)
    assert isinstance(found.error, LostGuest)


def test_every_row_is_measured_once() -> None:
    """Each row of the table belongs to one measure, and each measure fills rows that exist."""
    filled = [row for measure in MEASURES for row in measure.rows]
    assert sorted(filled) == sorted(row.id for row in ROWS)


def test_a_measure_unknown_is_wrong_usage() -> None:
    """The names that there are stand beside it; a name given twice counts once."""
    with pytest.raises(UsageError, match="no measure speed") as raised:
        _measures(["speed"])
    assert "consistency" in str(raised.value.hint)
    assert [each.name for each in _measures(["load", "load"])] == ["load"]
    assert _measures([]) == MEASURES
