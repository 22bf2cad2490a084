# SPDX-License-Identifier: GPL-2.0-only
"""The picture of a transition in the terminal."""

from __future__ import annotations

from harness.report.run_results import Mark, StateChange, TaskHistory
from harness.report.timeline_text import ASCII, UNICODE, can_draw, draw_timeline


def task(
    tid: int, comm: str, *changes: tuple[float, int | None], kthread: bool = False
) -> TaskHistory:
    return TaskHistory(
        tid=tid,
        comm=comm,
        kthread=kthread,
        changes=tuple(StateChange(at_s=at_s, state=state) for at_s, state in changes),
    )


def draw(tasks: list[TaskHistory], marks: list[Mark], width: int = 80) -> list[str]:
    return [line.plain for line in draw_timeline(tasks, marks, width=width, strokes=ASCII)]


SLEEPER = task(87, "klp-gate", (0.0, -1), (1.0, 0), (4.0, 1), (5.0, -1), (10.0, -1))
INIT = task(1, "init", (0.0, -1), (1.0, 0), (2.0, 1), (5.0, -1), (10.0, -1))
MARKS = [Mark(at_s=1.0, what="patching starts"), Mark(at_s=5.0, what="patching completes")]


def test_each_task_switches_where_it_did() -> None:
    """A row holds a task's states in proportion to time: 0 longer for the task that was held."""
    lines = draw([SLEEPER, INIT], MARKS)
    rows = {line[:25].strip(): line[26:] for line in lines if "init" in line or "klp-gate" in line}
    columns = 80 - 26
    init, sleeper = rows["1 init"], rows["87 klp-gate"]
    assert [len(init), len(sleeper)] == [columns, columns]
    assert init.lstrip("-").startswith("0")
    # 3 s in state 0 against 1 s; 1 s in state 1 against 3 s; a column is 0.19 s.
    assert abs(sleeper.count("0") - 3 * init.count("0")) <= 2
    assert abs(init.count("1") - 3 * sleeper.count("1")) <= 2
    assert sleeper.index("1") > init.index("1")


def test_marks_stand_above_the_moment_they_mark() -> None:
    """A letter stands in the column where the rows change, and the legend names it and its time."""
    lines = draw([INIT], MARKS)
    letters = next(line for line in lines if line.strip().startswith("A"))
    row = next(line for line in lines if "init" in line)
    assert abs(letters.index("A") - row.index("0")) <= 1
    assert abs(letters.index("B") - row.rindex("1")) <= 1
    assert "A 1.00 s patching starts   B 5.00 s patching completes" in lines


def test_kernel_threads_that_switch_alike_share_a_row() -> None:
    """Thirty kernel threads take one row; the one that was late has its own."""
    crowd = [
        task(10 + i, f"kworker/{i}", (0.0, 0), (1.0, 1), (9.0, 1), kthread=True) for i in range(30)
    ]
    late = task(5, "late", (0.0, 0), (8.0, 1), (9.0, 1), kthread=True)
    text = "\n".join(draw([*crowd, late], []))
    assert "30 kernel threads" in text
    assert "5 [late]" in text
    assert "kworker" not in text


def test_task_that_came_and_went_is_blank_outside_its_life() -> None:
    """A task has no state before it was forked and after it exited."""
    row = next(
        line
        for line in draw([INIT, task(9, "sh", (4.0, 0), (4.5, 1), (6.0, None))], [])
        if " sh" in line
    )
    cells = row[26:]
    assert cells.startswith(" ")
    assert set(cells.strip()) == {"0", "1"}
    assert len(cells) < 40


def test_tasks_that_moved_nowhere_are_counted() -> None:
    """Who was born on one side and died there has no row; who was in no transition is not told."""
    born = [task(i, "sh", (4.0, 1), (6.0, None)) for i in range(20, 23)]
    idle = task(30, "idle", (0.0, -1), (9.0, -1))
    lines = draw([INIT, *born, idle], [])
    assert any(line.strip() == "3 did not switch" for line in lines)
    assert not any(" sh" in line or " idle" in line for line in lines)


def test_picture_is_of_the_marked_time() -> None:
    """Preparation before the first mark and what follows the last one take no room."""
    long = task(1, "init", (0.0, -1), (100.0, 0), (101.0, 1), (102.0, -1), (500.0, -1))
    marks = [Mark(at_s=100.0, what="starts"), Mark(at_s=102.0, what="complete")]
    row = next(line for line in draw([long], marks) if "init" in line)[26:]
    assert row.count("0") > 15
    assert row.count("1") > 15
    assert row.count("-") < 10


def test_nearly_alike_rows_are_alike() -> None:
    """Sampling finds threads a moment apart that switched at once: they still share a row."""
    crowd = [
        task(10 + i, "k", (0.0, 0), (1.0 + 0.2 * (i % 2), 1), (9.0, 1), kthread=True)
        for i in range(10)
    ]
    assert any("10 kernel threads" in line for line in draw(crowd, []))


def test_nothing_is_wider_than_asked() -> None:
    """80 columns are enough, long names or not."""
    many = [task(i, "a" * 15, (0.0, 0), (1.0, 1), (9.9, -1)) for i in range(100_000, 100_060)]
    marks = [Mark(at_s=i / 3, what="something happened here") for i in range(20)]
    lines = draw(many, marks)
    assert max(len(line) for line in lines) <= 80
    assert any("20 more tasks" in line for line in lines)


def test_crowded_marks_do_not_hide_each_other() -> None:
    """Marks in one column stand on lines of their own."""
    marks = [Mark(at_s=5.0, what=str(i)) for i in range(3)]
    lines = draw([INIT], marks)
    found = [line.strip() for line in lines if line.strip() in {"A", "B", "C"}]
    assert found == ["A", "B", "C"]


def test_empty_recording_says_so() -> None:
    """No samples, no picture, no crash."""
    assert draw([], []) == ["nothing was recorded"]


def test_one_moment_is_drawn() -> None:
    """A recording without duration still has its states."""
    assert any(
        "init" in line and "1" in line[26:]
        for line in draw([task(1, "init", (2.0, 0), (2.0, 1))], [])
    )


def test_strokes_suit_the_stream() -> None:
    """A stream that cannot carry block characters gets digits."""
    assert can_draw("utf-8") is UNICODE
    assert can_draw("ascii") is ASCII
    assert can_draw("latin-1") is ASCII
    assert can_draw(None) is ASCII
