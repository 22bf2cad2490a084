# SPDX-License-Identifier: GPL-2.0-only
"""From samples to transitions."""

from __future__ import annotations

from harness.observe.history import PatchChange, find_marks, find_phases
from harness.report.results import StateChange, TaskHistory


def change(at_s: float, enabled: bool | None, transition: bool | None) -> PatchChange:
    return PatchChange(at_s=at_s, enabled=enabled, transition=transition)


def task(tid: int, *changes: tuple[float, int | None]) -> TaskHistory:
    return TaskHistory(
        tid=tid,
        comm=f"t{tid}",
        kthread=False,
        changes=tuple(StateChange(at_s=at_s, state=state) for at_s, state in changes),
    )


THERE_AND_BACK = [
    change(1.0, True, True),
    change(3.0, True, False),
    change(4.0, False, True),
    change(6.0, None, None),
]


def test_there_and_back_are_two_phases() -> None:
    """Patching from the first sight of the transition to its end; unpatching until it is gone."""
    held = task(9, (0.0, -1), (1.1, 0), (2.9, 1), (3.0, -1), (4.0, 1), (4.5, 0), (6.0, -1))
    quick = task(5, (0.0, -1), (1.1, 1), (3.0, -1), (4.1, 0), (6.0, -1))
    there, back = find_phases(THERE_AND_BACK, [held, quick])
    assert (there.direction, there.start_s, there.end_s) == ("patching", 1.0, 3.0)
    assert (back.direction, back.start_s, back.end_s) == ("unpatching", 4.0, 6.0)
    assert [(s.at_s, s.tid, s.before, s.after) for s in there.switches] == [
        (1.1, 5, -1, 1),
        (2.9, 9, 0, 1),
    ]
    assert [(s.at_s, s.tid, s.before, s.after) for s in back.switches] == [
        (4.1, 5, -1, 0),
        (4.5, 9, 1, 0),
    ]


def test_starting_state_is_no_switch() -> None:
    """A task that goes from -1 to the side it starts on, and dies there, has not switched."""
    (there, _) = find_phases(THERE_AND_BACK, [task(9, (0.0, -1), (1.1, 0), (2.0, None))])
    assert there.switches == ()


def test_child_born_on_the_new_side_has_not_switched() -> None:
    """A task that is first seen in state 1 inherited it."""
    (there, _) = find_phases(THERE_AND_BACK, [task(9, (2.0, 1), (3.0, -1))])
    assert there.switches == ()


def test_transition_that_does_not_end() -> None:
    """A stuck transition is a phase without an end; who switched in it is still told."""
    (stuck,) = find_phases([change(1.0, True, True)], [task(9, (0.0, -1), (1.5, 0), (50.0, 1))])
    assert stuck.end_s is None
    assert [switch.tid for switch in stuck.switches] == [9]
    assert [mark.what for mark in find_marks([stuck])] == ["patching starts"]


def test_reversal_ends_one_phase_and_begins_another() -> None:
    """A reversed transition is two phases that touch, with one mark between them."""
    changes = [change(1.0, True, True), change(2.0, False, True), change(3.0, None, None)]
    phases = find_phases(changes, [])
    assert [(phase.direction, phase.start_s, phase.end_s) for phase in phases] == [
        ("patching", 1.0, 2.0),
        ("unpatching", 2.0, 3.0),
    ]
    assert [(mark.at_s, mark.what) for mark in find_marks(phases)] == [
        (1.0, "patching starts"),
        (2.0, "reversed: unpatching"),
        (3.0, "unpatching complete"),
    ]


def test_change_of_enabled_alone_is_no_phase() -> None:
    """Without a transition there is no phase, whatever else sysfs says."""
    assert find_phases([change(0.0, None, None), change(1.0, True, False)], []) == ()
