# SPDX-License-Identifier: GPL-2.0-only
"""Costs in instructions: what events make of calls, steps and locks, and how that is shown."""

from __future__ import annotations

import io
import itertools
from collections import Counter

import pytest

from benchmarks.instructions import figures_of
from harness.observer.cost_changes import compare_costs
from harness.observer.cost_results import CostKind, CostResult
from harness.observer.shared_file import Event, Kind
from harness.observer.task_clock import InterruptPoints, TaskClock
from harness.report.terminal import Terminal
from harness.tools.costs import charts
from harness.tools.costs import points as at
from harness.tools.costs.arithmetic import call_costs, line, off_line, spread
from harness.tools.costs.figures import Finding, transition_name
from harness.tools.costs.measure_transitions import attempts, locks, slopes, transition
from harness.tools.costs.page import costs_page
from harness.tools.costs.points import CostPoints
from harness.tools.costs.results import CostsReport
from harness.tools.costs.run import Extent, result_of
from harness.tools.costs.steps import Hold, Step, StepReader, Work
from harness.tools.costs.terminal import instructions, print_tables

IRQ, IRET, DEATH, SWITCH = 0x10, 0x11, 0x12, 0x13
LOCK, UNLOCK, TASKLIST, WAIT = 0x20, 0x21, 0x30, 0x40
ENTRY, OLD, NEW = 0x100, 0x105, 0x205
STARTS = {0x1000 + n: name for n, name in enumerate(at.ALL_STEPS)}
ENDS = {0x2000 + n: name for n, name in enumerate(at.ALL_STEPS)}
COLD_END = 0x3000
INTERRUPTS = InterruptPoints(begins=frozenset({IRQ}), end=IRET, death=DEATH)
POINTS = CostPoints(
    steps=STARTS,
    ends={**ENDS, COLD_END: at.COLD},
    acquires=frozenset({LOCK}),
    releases=frozenset({UNLOCK}),
    locks={TASKLIST: at.TASKLIST},
    waits={WAIT: "synchronize_rcu"},
    interrupts=INTERRUPTS,
    switch=SWITCH,
)


def event(clock: int, where: int, task: int = 1, kind: Kind = Kind.POINT, data: int = 0) -> Event:
    return Event(clock, where, task, data, 0, kind)


def start(clock: int, name: str, task: int = 1) -> Event:
    return event(clock, next(key for key, value in STARTS.items() if value == name), task)


def end(clock: int, name: str, task: int = 1) -> Event:
    return event(clock, next(key for key, value in ENDS.items() if value == name), task)


def switch(clock: int, task: int, to: int) -> Event:
    return event(clock, SWITCH, task, Kind.SWITCH, to)


def test_interrupts_and_other_tasks_are_not_the_tasks_own() -> None:
    """A task's clock stands still while an interrupt runs, and while another task does."""
    clock = TaskClock(INTERRUPTS)
    stream = [
        event(100, ENTRY),
        event(110, IRQ),
        event(140, IRET),
        switch(150, 1, 2),
        event(170, ENTRY, task=2),
        switch(180, 2, 1),
        event(185, OLD),
    ]
    assert [clock.at(each) for each in stream] == [0, 10, 10, 20, 20, 30, 25]


def test_a_task_that_is_preempted_in_an_interrupt_goes_on_behind_it() -> None:
    """An interrupt that ends in a switch is open until its own task is back and leaves it."""
    clock = TaskClock(INTERRUPTS)
    stream = [
        event(0, ENTRY),
        event(10, IRQ),
        switch(30, 1, 2),
        event(60, IRET, task=2),
        switch(80, 2, 1),
        event(95, IRET),
        event(100, OLD),
    ]
    assert [clock.at(each) for each in stream] == [0, 10, 10, 30, 50, 10, 15]


def test_a_task_that_ends_in_an_interrupt_leaves_nothing_open() -> None:
    """A task that a signal ends in an interrupt: who gets its memory is in none."""
    clock = TaskClock(INTERRUPTS)
    for each in (event(0, ENTRY), event(5, IRQ), event(9, DEATH)):
        clock.at(each)
    assert clock.at(event(20, ENTRY)) - clock.at(event(20, ENTRY)) == 0
    assert clock.at(event(27, OLD)) == 5 + 11 + 7


def test_call_costs_tell_which_version_ran() -> None:
    """A call costs what is between the function's first instruction and the body that runs."""
    stream = [
        event(10, ENTRY, kind=Kind.ENTRY),
        event(11, OLD, kind=Kind.BODY),
        event(50, ENTRY, kind=Kind.ENTRY),
        # A call of another task in between, and an entry into something else.
        switch(60, 1, 2),
        event(70, ENTRY, task=2, kind=Kind.ENTRY),
        event(75, 0x999, task=2, kind=Kind.ENTRY),
        event(146, NEW, task=2, kind=Kind.BODY),
        switch(150, 2, 1),
        event(161, NEW, kind=Kind.BODY),
        event(170, NEW, kind=Kind.BODY),
    ]
    costs = call_costs(stream, TaskClock(INTERRUPTS), frozenset({ENTRY}), {OLD: "old", NEW: "new"})
    assert costs == [("old", 1), ("new", 76), ("new", 21)]


def test_steps_do_not_count_what_they_call() -> None:
    """What a step executes in another step is that one's, and a wait counts in its task alone."""
    reader = StepReader(POINTS)
    first = reader.take(
        [
            start(0, at.ENABLE),
            start(100, at.HOOK),
            event(110, WAIT),
            end(150, at.HOOK),
            switch(160, 1, 2),
            event(170, WAIT, task=2),
            switch(400, 2, 1),
            start(410, at.TRY),
        ]
    )
    rest = reader.take([end(500, at.TRY), end(505, at.ENABLE), end(510, at.TRY)])
    assert first.steps == (Step(name=at.HOOK, own=50),)
    assert first.waits == Counter({"synchronize_rcu": 1})
    assert rest.steps == (Step(name=at.TRY, own=90), Step(name=at.ENABLE, own=125))


def test_a_step_that_ends_in_shared_cold_code_ends() -> None:
    """A return in cold code is that of the innermost step; it leaves the outer one open."""
    work = StepReader(POINTS).take(
        [start(0, at.ENABLE), start(10, at.START), event(30, COLD_END), end(50, at.ENABLE)]
    )
    assert work.steps == (Step(name=at.START, own=20), Step(name=at.ENABLE, own=30))


def test_locks_are_held_by_their_taker() -> None:
    """A lock counts from its store to the unlock of the same task, and only inside of a step."""

    def store(clock: int, where: int, task: int = 1) -> Event:
        return event(clock, where, task, Kind.STORE, TASKLIST)

    work = StepReader(POINTS).take(
        [
            store(0, LOCK),
            store(5, UNLOCK),
            start(10, at.TRY),
            store(20, LOCK),
            event(22, LOCK, kind=Kind.STORE, data=0x31),
            switch(30, 1, 2),
            store(35, UNLOCK, task=2),
            switch(50, 2, 1),
            store(65, UNLOCK),
            end(70, at.TRY),
        ]
    )
    assert work.holds == (Hold(lock=at.TASKLIST, own=25, passed=45),)


def test_attempts_have_their_tasks() -> None:
    """An attempt costs what it executes itself and for each task that it tries to switch."""
    steps = (
        Step(name=at.SWITCH, own=100),
        Step(name=at.SWITCH, own=300),
        Step(name=at.TRY, own=20),
        Step(name=at.SWITCH, own=7),
        Step(name=at.TRY, own=20),
    )
    work = Work(steps=steps, holds=(), waits=Counter())
    assert attempts(work) == [420, 27]
    (task,) = locks(work)
    assert (task.name, task.times, task.longest) == ("task", 3, 300)


def made(tasks: int, functions: int, sleepers: int, per_task: int = 4000) -> Finding:
    steps = (
        Step(name=at.ENABLE, own=1000 * functions),
        Step(name=at.SWITCH, own=per_task * tasks * functions),
        Step(name=at.TRY, own=500),
        Step(name=at.UNHOOK, own=999),
    )
    work = Work(
        steps=steps,
        holds=(Hold(lock=at.TASKLIST, own=4321, passed=5000),),
        waits=Counter({"synchronize_rcu": 3}),
    )
    return transition(
        CostKind.PATCHING, [work], sleepers=sleepers, functions=functions, tasks=tasks
    )


def test_a_transition_is_the_sum_of_its_phases() -> None:
    """Patching counts its own steps, and none of those that unpatch."""
    found = made(30, 1, 0)
    assert found.values == (1000 + 4000 * 30 + 500,)
    assert sum(phase.value for phase in found.phases) == found.values[0]
    assert at.UNHOOK not in {phase.name for phase in found.phases}
    assert found.waits == 3


def test_slopes_are_what_each_task_and_function_adds() -> None:
    """A line through the sizes gives the cost of a task, for each number of functions."""
    sizes = [(30, 1, 0), (130, 1, 100), (30, 10, 0), (130, 10, 100)]
    found = {each.figure: each.values[0] for each in slopes([made(*size) for size in sizes])}
    assert found["attempt-task-1-functions"] == pytest.approx(4000)
    assert found["attempt-task-10-functions"] == pytest.approx(40000)
    assert found["patch-function"] == pytest.approx(1000 + 4000 * 30)
    assert "unpatch-function" not in found


def test_one_size_has_no_slope() -> None:
    """A line needs two places: of one size nothing is said."""
    assert list(slopes([made(30, 1, 0)])) == []
    with pytest.raises(ValueError, match="two different places"):
        line([(1, 2), (1, 3)])


def test_how_far_a_sample_is_off_the_line() -> None:
    """The farthest sample counts, as a share of its value; the spread is that of the median."""
    assert off_line([(0, 10), (1, 20), (2, 30)]) == pytest.approx(0)
    assert off_line([(0, 10), (1, 26), (2, 30)]) == pytest.approx(0.2)
    assert spread([95, 100, 105]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (76, "76"),
        (21.06, "21.1"),
        (4330.4, "4,330"),
        (99_999, "99,999"),
        (3_529_678, "3.53 M"),
        (35_967_652, "36.0 M"),
        (3_066_565_000, "3,067 M"),
    ],
)
def test_instructions_are_readable(value: float, text: str) -> None:
    """A figure has three digits or more, and its unit is plain."""
    assert instructions(value) == text


RESULTS = [
    *(
        result_of(made(tasks, functions, sleepers), kernel, 0.1)
        for kernel in ("6.1.192", "7.2.13")
        for functions in (1, 10)
        for tasks, sleepers in ((30, 0), (130, 100))
    ),
    result_of(
        Finding(figure="call-patched", kind=CostKind.CALL, what="patched", values=(75.0, 76.0, 76)),
        "6.1.192",
        0.1,
    ),
]


def test_results_carry_kernel_and_median() -> None:
    """A result is named by figure and kernel, and the report takes it with all its fields."""
    result = RESULTS[-1]
    assert result.id == "call-patched@6.1.192"
    assert result.value == 76
    assert CostsReport.model_fields["results"].annotation == tuple[CostResult, ...]
    assert RESULTS[0].figure == transition_name(CostKind.PATCHING, 0, 1)


def printed(results: list[CostResult]) -> str:
    stream = io.StringIO()
    print_tables(Terminal(stdout=stream, stderr=stream), ["6.1.192", "7.2.13"], results)
    return stream.getvalue()


def test_tables_show_kernels_side_by_side() -> None:
    """A figure that one kernel lacks is an empty cell; transitions have a table for each kernel."""
    text = printed(RESULTS)
    (row,) = [row for row in text.splitlines() if "│ patched " in row]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["patched", "76", ""]
    assert "7.2.13, patching" in text
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in text.splitlines()]
    assert rows.count(["10", "130", "5.21 M", "5.20 M", "4,321", "", "3"]) == 2
    assert max(map(len, text.splitlines())) < 80


def test_tables_of_nothing_are_nothing() -> None:
    """A command that was interrupted before its first figure prints no table."""
    assert printed([]) == ""


def test_the_page_draws_what_there_is() -> None:
    """Each kernel has a panel with a curve for each number of functions; nothing is left open."""
    page = costs_page(["6.1.192", "7.2.13"], RESULTS, {"kernel": "6.1"})
    assert page.count("<figcaption>6.1.192</figcaption>") == 1
    assert "10 functions, 130 tasks: 5.20 M instructions" in page
    assert "patched, 6.1" not in page
    assert "6.1.192, patched: 76 instructions" in page
    assert "Partial" not in page
    assert "Partial" in costs_page(["6.1.192"], [], {}, partial=True)


def test_panels_share_their_axes() -> None:
    """Curves of two panels can be compared by eye: the same value is at the same height."""
    one, other = charts.panels(
        {"one": {"a": [(1, 100), (10, 1000)]}, "other": {"a": [(1, 100)], "b": [(0, 5)]}},
        across="tasks",
    )
    assert one.curves[0].dots[0].y == other.curves[0].dots[0].y
    assert one.rows == other.rows
    # What is 0 has no place on a logarithmic axis.
    assert [curve.name for curve in other.curves] == ["a"]
    assert charts.panels({"none": {"a": [(0, 0)]}}, across="tasks") == ()


def test_names_of_curves_do_not_cover_each_other() -> None:
    """Names of curves that end at one height are moved apart, and stay above the lower end."""
    heights = charts.spread([charts.BOTTOM - 2.0, charts.BOTTOM - 1.0, charts.BOTTOM])
    assert heights[-1] == charts.BOTTOM
    assert all(low + charts.LABEL_SPACE <= high for low, high in itertools.pairwise(heights))


def test_the_extent_counts_its_figures() -> None:
    """Progress has a total: calls, two directions of each size, and attempts in vain."""
    assert Extent(sleepers=(0, 100), functions=(1, 10)).count == 12 + 2 * (2 * 2 + 1)
    assert Extent(sleepers=()).count == 12


def costing(kernel: str, **values: float) -> list[CostResult]:
    return [
        result_of(Finding(figure=name, kind=CostKind.CALL, what=name, values=(value,)), kernel, 0)
        for name, value in values.items()
    ]


def test_costs_that_differ_between_kernels() -> None:
    """A figure of both that differs by more than 5 % is a change, the largest one first."""
    before = costing("A", same=100, more=100, less=100, gone=1, free=0)
    after = costing("B", same=104.9, more=106, less=50, new=1, free=3)
    changes = compare_costs(before, after)
    assert [(each.figure, round(each.share, 2)) for each in changes] == [
        ("free", float("inf")),
        ("less", -0.5),
        ("more", 0.06),
    ]


def test_the_benchmarks_have_figures_without_a_budget() -> None:
    """make bench prints some costs in instructions, as far as they were measured."""
    found = {"call-patched": RESULTS[-1], "call-other": RESULTS[-1]}
    (figure,) = figures_of(found)
    assert figure.describe() == "a call, patched: 76 instructions"
    assert figure.met is None
