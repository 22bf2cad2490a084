# SPDX-License-Identifier: GPL-2.0-only
"""From a recorded timeline to what reports show."""

from __future__ import annotations

import json
from typing import Any

from harness.livepatch.callbacks import CallbackEvent, CallbackPhase
from harness.livepatch.timeline import Timeline, read_timeline
from harness.observe.as_results import callbacks, phases, task_histories, transition_marks

PATCH = "klp_test"


def task(t_us: int, tid: int, state: int) -> dict[str, Any]:
    return {
        "t_us": t_us,
        "tid": tid,
        "pid": tid,
        "comm": f"t{tid}",
        "kthread": False,
        "state": "S",
        "patch_state": state,
    }


def recording(*lines: dict[str, Any]) -> Timeline:
    first = [task(1_000_000, 9, -1), {"t_us": 1_000_000, "ready": True}]
    return read_timeline(json.dumps(line) for line in [*first, *lines])


THERE_AND_BACK = recording(
    {"t_us": 2_000_000, "transition": {PATCH: 1}},
    {"t_us": 2_000_000, "enabled": {PATCH: 1}},
    task(2_000_000, 9, 0),
    task(2_500_000, 9, 1),
    {"t_us": 3_000_000, "transition": {PATCH: 0}},
    task(3_000_000, 9, -1),
    {"t_us": 4_000_000, "transition": {PATCH: 1}},
    {"t_us": 4_000_000, "enabled": {PATCH: 0}},
    task(4_000_000, 9, 1),
    task(4_500_000, 9, 0),
    {"t_us": 5_000_000, "transition": {PATCH: None}},
    {"t_us": 5_000_000, "enabled": {PATCH: None}},
    task(5_000_000, 9, -1),
)


def test_times_are_seconds_since_recording_began() -> None:
    """The first complete sample is second 0."""
    (history,) = task_histories(THERE_AND_BACK)
    assert (history.changes[0].at_s, history.changes[0].state) == (0.0, -1)
    assert [(change.at_s, change.state) for change in history.changes[1:3]] == [(1.0, 0), (1.5, 1)]


def test_a_task_that_lives_reaches_the_end_of_the_recording() -> None:
    """The last state of a living task is repeated at the end; a dead task ends with its death."""
    alive = task_histories(recording(task(2_000_000, 5, -1), task(9_000_000, 9, 1)))[1]
    assert (alive.changes[-1].at_s, alive.changes[-1].state) == (8.0, -1)
    dead = task_histories(recording({"t_us": 2_000_000, "gone": 9}, task(3_000_000, 5, -1)))[0]
    assert (dead.changes[-1].at_s, dead.changes[-1].state) == (1.0, None)


def test_there_and_back_are_two_phases() -> None:
    """Each phase has its own switches."""
    there, back = phases(THERE_AND_BACK, PATCH)
    assert (there.direction, there.start_s, there.end_s) == ("patching", 1.0, 2.0)
    assert (back.direction, back.start_s, back.end_s) == ("unpatching", 3.0, 4.0)
    assert [(s.at_s, s.tid, s.before, s.after) for s in there.switches] == [(1.5, 9, 0, 1)]
    assert [(s.at_s, s.tid, s.before, s.after) for s in back.switches] == [(3.5, 9, 1, 0)]


def test_marks_name_what_happened() -> None:
    """Start and end of each transition, in words."""
    assert [(mark.at_s, mark.what) for mark in transition_marks(THERE_AND_BACK, PATCH)] == [
        (1.0, "patching starts"),
        (2.0, "patching complete"),
        (3.0, "unpatching starts"),
        (4.0, "unpatching complete"),
    ]


def test_stuck_transition_has_no_end() -> None:
    """What did not end has no end and no mark of one."""
    stuck = recording(
        {"t_us": 2_000_000, "transition": {PATCH: 1}},
        {"t_us": 2_000_000, "enabled": {PATCH: 1}},
        task(2_000_000, 9, 0),
        task(9_000_000, 5, 1),
    )
    (phase,) = phases(stuck, PATCH)
    assert (phase.end_s, phase.switches) == (None, ())
    assert [mark.what for mark in transition_marks(stuck, PATCH)] == ["patching starts"]


def test_reversal_is_two_phases_and_one_mark() -> None:
    """A task that switched there and back again is in both phases."""
    reversed_ = recording(
        {"t_us": 2_000_000, "transition": {PATCH: 1}},
        {"t_us": 2_000_000, "enabled": {PATCH: 1}},
        task(2_000_000, 9, 0),
        task(2_200_000, 9, 1),
        {"t_us": 3_000_000, "enabled": {PATCH: 0}},
        task(3_200_000, 9, 0),
        {"t_us": 4_000_000, "transition": {PATCH: None}, "enabled": {PATCH: None}},
    )
    there, back = phases(reversed_, PATCH)
    assert (there.direction, there.end_s, back.direction) == ("patching", 2.0, "unpatching")
    assert [switch.at_s for switch in there.switches] == [1.2]
    assert [switch.at_s for switch in back.switches] == [2.2]
    assert [mark.what for mark in transition_marks(reversed_, PATCH)] == [
        "patching starts",
        "reversed: unpatching",
        "unpatching complete",
    ]


def test_other_patches_are_left_out() -> None:
    """Only the watched patch's transitions are its phases."""
    assert phases(THERE_AND_BACK, "other") == ()


def test_callbacks_stand_on_the_same_axis() -> None:
    """A callback's time counts from the same moment as the switches."""
    event = CallbackEvent(
        patch=PATCH, phase=CallbackPhase.PRE_PATCH, object="vmlinux", state="-", us=1_900_000
    )
    (callback,) = callbacks([event], THERE_AND_BACK)
    assert (callback.at_s, callback.phase) == (0.9, "pre_patch")


def test_switch_at_the_moment_of_reversal_is_in_one_phase() -> None:
    """A task that is seen on the old side in the sample that sees the reversal went back."""
    reversed_ = recording(
        {"t_us": 2_000_000, "transition": {PATCH: 1}},
        {"t_us": 2_000_000, "enabled": {PATCH: 1}},
        task(2_000_000, 9, 1),
        {"t_us": 3_000_000, "enabled": {PATCH: 0}},
        task(3_000_000, 9, 0),
    )
    there, back = phases(reversed_, PATCH)
    assert [switch.after for switch in there.switches] == [1]
    assert [switch.after for switch in back.switches] == [0]
