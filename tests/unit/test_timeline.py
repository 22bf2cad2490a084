# SPDX-License-Identifier: GPL-2.0-only
"""Timelines from the lines of klp-sampler, and the recorder that runs it."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError, LostGuest
from harness.livepatch.recorder import Recorder, recording
from harness.livepatch.tasks import PatchState
from harness.livepatch.timeline import Direction, Timeline, read_timeline
from tests.unit.scripted_guest import ScriptedGuest, ScriptedProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.deadline import Deadline

Line = dict[str, object]


def task(t_us: int, tid: int, state: int, *, pid: int | None = None, comm: str = "x") -> Line:
    return {
        "t_us": t_us,
        "tid": tid,
        "pid": pid or tid,
        "comm": comm,
        "kthread": False,
        "state": "S",
        "patch_state": state,
    }


def gone(t_us: int, tid: int) -> Line:
    return {"t_us": t_us, "gone": tid}


def transition(t_us: int, value: int | None, patch: str = "p") -> Line:
    return {"t_us": t_us, "transition": {patch: value}}


def enabled(t_us: int, value: int | None, patch: str = "p") -> Line:
    return {"t_us": t_us, "enabled": {patch: value}}


def ready(t_us: int) -> Line:
    return {"t_us": t_us, "ready": True}


def read(*lines: Line) -> Timeline:
    return read_timeline(json.dumps(line) for line in lines)


def legs(timeline: Timeline) -> list[list[tuple[Direction, int, int | None]]]:
    return [
        [(leg.direction, leg.start_us, leg.end_us) for leg in found.legs]
        for found in timeline.transitions()
    ]


def switches(timeline: Timeline, number: int = 0) -> list[tuple[int, int, int]]:
    found = timeline.switches(timeline.transitions()[number])
    return [(switch.t_us, switch.task.tid, int(switch.after)) for switch in found]


PATCHING, UNPATCHING = Direction.PATCHING, Direction.UNPATCHING

THERE_AND_BACK = (
    task(1, 7, -1),
    task(2, 8, -1),
    ready(3),
    transition(100, 1),
    enabled(101, 1),
    task(102, 7, 1),
    task(103, 8, 0),
    task(110, 8, 1),
    transition(120, 0),
    task(121, 7, -1),
    task(122, 8, -1),
    transition(200, 1),
    task(201, 7, 1),
    task(202, 8, 0),
    enabled(210, 0),
    task(211, 7, 0),
    transition(220, None),
    enabled(221, None),
    task(222, 7, -1),
    task(223, 8, -1),
)


def test_there_and_back() -> None:
    """A patching and an unpatching: each with its start, its end and who switched when."""
    timeline = read(*THERE_AND_BACK)
    assert legs(timeline) == [[(PATCHING, 100, 120)], [(UNPATCHING, 200, 220)]]
    assert switches(timeline) == [(102, 7, 1), (110, 8, 1)]
    assert switches(timeline, 1) == [(202, 8, 0), (211, 7, 0)]
    assert (timeline.start_us, timeline.end_us) == (3, 223)
    assert timeline.transitions("p") == timeline.transitions()
    assert timeline.transitions("other") == ()


def test_the_flip_comes_after_the_start() -> None:
    """enabled flips when the pre-callbacks have run: that is no reversal, in either direction."""
    timeline = read(
        ready(1),
        enabled(10, 0),
        transition(11, 0),
        transition(20, 1),
        enabled(30, 1),
        transition(40, 0),
        transition(50, 1),
        enabled(60, 0),
        transition(70, 0),
    )
    assert legs(timeline) == [[(PATCHING, 20, 40)], [(UNPATCHING, 50, 70)]]


def test_a_patch_first_seen_before_its_flip() -> None:
    """One look reads ``transition`` 1 and ``enabled`` 0: the flip to come is no reversal."""
    timeline = read(
        ready(1), transition(10, 1), enabled(11, 0), enabled(20, 1), transition(30, 0),
    )  # fmt: skip
    assert legs(timeline) == [[(PATCHING, 10, 30)]]


def test_reversed() -> None:
    """A transition that is reversed twice is one transition with three legs."""
    timeline = read(
        task(1, 7, -1),
        ready(2),
        transition(10, 1),
        enabled(11, 1),
        task(12, 7, 0),
        task(13, 7, 1),
        enabled(20, 0),
        task(21, 7, 0),
        enabled(30, 1),
        task(31, 7, 1),
        transition(40, 0),
        task(41, 7, -1),
    )
    assert legs(timeline) == [[(PATCHING, 10, 20), (UNPATCHING, 20, 30), (PATCHING, 30, 40)]]
    assert switches(timeline) == [(13, 7, 1), (21, 7, 0), (31, 7, 1)]
    assert timeline.transitions()[0].reversed_us == (20, 30)
    assert (timeline.transitions()[0].start_us, timeline.transitions()[0].end_us) == (10, 40)


def test_reversed_to_nothing() -> None:
    """A reversed enable ends with the patch gone; no other transition starts."""
    timeline = read(
        ready(1), transition(10, 1), enabled(11, 1), enabled(20, 0), transition(30, None),
        enabled(31, None),
    )  # fmt: skip
    assert legs(timeline) == [[(PATCHING, 10, 20), (UNPATCHING, 20, 30)]]


def test_one_that_does_not_end() -> None:
    """A transition that still runs at the end of the recording has no end."""
    timeline = read(ready(1), transition(10, 1), enabled(11, 1))
    assert legs(timeline) == [[(PATCHING, 10, None)]]
    assert timeline.transitions()[0].end_us is None


def test_shorter_than_a_sample() -> None:
    """A transition between two samples is reported, without a length."""
    timeline = read(
        ready(1), transition(10, 0), enabled(11, 1), transition(900_000, None),
        enabled(900_001, None),
    )  # fmt: skip
    assert legs(timeline) == [[(PATCHING, 11, 11)], [(UNPATCHING, 900_001, 900_001)]]


def test_a_flip_seen_before_its_transition() -> None:
    """The two attributes are read one after the other: the flip may be seen a sample early."""
    timeline = read(
        ready(1),
        transition(10, 1),
        enabled(11, 1),
        transition(20, 0),
        enabled(500_000, 0),
        transition(520_000, 1),
        transition(600_000, None),
        enabled(600_001, None),
    )
    assert legs(timeline) == [[(PATCHING, 10, 20)], [(UNPATCHING, 500_000, 600_000)]]


def test_a_flip_long_before_is_another_transition() -> None:
    """What begins a while after a transition too short to be seen is the next one."""
    timeline = read(
        ready(1), transition(10, 0), enabled(11, 1), transition(600_000, 1),
        enabled(600_100, 0), transition(700_000, 0),
    )  # fmt: skip
    assert legs(timeline) == [[(PATCHING, 11, 11)], [(UNPATCHING, 600_000, 700_000)]]


def test_an_end_is_no_reversal() -> None:
    """A transition that ends before its flip was seen has ended, and nothing else."""
    timeline = read(ready(1), enabled(2, 0), transition(3, 0), transition(10, 1), transition(20, 0))
    assert legs(timeline) == [[(PATCHING, 10, 20)]]


def test_switched_between_two_samples() -> None:
    """A task never seen in a state has switched all the same when the transition is over."""
    timeline = read(
        task(1, 7, -1),
        task(2, 8, -1),
        ready(3),
        transition(10, 1),
        enabled(11, 1),
        task(12, 7, 1),
        task(13, 8, 0),
        transition(20, 0),
        task(21, 7, -1),
        task(22, 8, -1),
    )
    assert switches(timeline) == [(12, 7, 1), (22, 8, 1)]


def test_tasks_seen_before_their_transition() -> None:
    """The sampler looks at the patches first: tasks may be seen in it a sample earlier."""
    timeline = read(
        task(1, 7, -1), ready(2), task(9, 7, 1), transition(10, 1), enabled(11, 1),
        transition(20, 0), task(21, 7, -1),
    )  # fmt: skip
    assert switches(timeline) == [(9, 7, 1)]


def test_two_patches_share_no_switch() -> None:
    """Each switch belongs to one transition, also when the patches follow each other closely."""
    timeline = read(
        task(1, 7, -1),
        ready(2),
        transition(10, 1, "a"),
        enabled(11, 1, "a"),
        task(12, 7, 0),
        transition(20, 0, "a"),
        task(21, 7, -1),
        transition(30, 1, "b"),
        enabled(31, 1, "b"),
        task(32, 7, 0),
        task(33, 7, 1),
        transition(40, 0, "b"),
        task(41, 7, -1),
    )
    assert [found.patch for found in timeline.transitions()] == ["a", "b"]
    assert switches(timeline, 0) == [(21, 7, 1)]
    assert switches(timeline, 1) == [(33, 7, 1)]


def test_who_does_not_switch() -> None:
    """Of tasks that are created or exit, only one that was seen in both states has switched."""
    timeline = read(
        task(1, 7, -1),
        ready(2),
        transition(10, 1),
        enabled(11, 1),
        task(12, 7, 0),
        task(13, 50, 1),
        task(14, 51, 0),
        gone(15, 7),
        task(16, 51, 1),
        transition(20, 0),
    )
    assert switches(timeline) == [(16, 51, 1)]
    assert timeline.tasks[0].changes[-1].state is None


def test_a_thread_id_used_again() -> None:
    """Another task with the number of one that has gone is another track."""
    timeline = read(
        task(1, 7, -1, comm="old"),
        ready(2),
        gone(3, 7),
        task(4, 7, -1, comm="new"),
        task(5, 7, 0, pid=6, comm="newer"),
    )
    assert [track.comm for track in timeline.tasks] == ["old", "new", "newer"]
    assert [change.state for change in timeline.tasks[1].changes] == [PatchState.UNDEFINED, None]


def test_a_program_that_changes_its_name() -> None:
    """exec gives a task a new name: the last one is shown."""
    timeline = read(task(1, 7, -1, comm="sh"), ready(2), task(3, 7, 0, comm="klp-gate"))
    assert [track.comm for track in timeline.tasks] == ["klp-gate"]


@pytest.mark.parametrize(
    "line", ["no JSON", "[]", '{"t_us": 1}', '{"t_us": 1, "tid": 1, "pid": 1, "patch_state": 7}']
)
def test_a_line_that_is_none(line: str) -> None:
    """A line that is not understood is an error that quotes it."""
    with pytest.raises(HarnessError, match="klp-sampler printed"):
        read_timeline([json.dumps(ready(1)), line])


def test_an_incomplete_recording() -> None:
    """Without the first complete sample nothing can be said about who switched."""
    with pytest.raises(HarnessError, match="first sample"):
        read(task(1, 7, -1))


# -- the recorder -----------------------------------------------------------------------------


def sampler(*lines: Line, code: int | None = 0) -> ScriptedProcess:
    return ScriptedProcess(pid=9, says=deque(json.dumps(line) for line in lines), code=code)


def record(process: ScriptedProcess) -> Recorder:
    guest = ScriptedGuest()
    guest.programs["klp-sampler"] = lambda args: process
    return Recorder(guest)


def test_recording() -> None:
    """It begins when the first sample is complete; stop() ends the sampler and reads the rest."""
    process = sampler(*THERE_AND_BACK)
    recorder = record(process)
    assert len(process.says) == len(THERE_AND_BACK) - 3
    timeline = recorder.stop()
    assert process.heard == ["end of input"]
    assert legs(timeline) == legs(read(*THERE_AND_BACK))
    assert recorder.stop() is timeline


def test_a_task_called_ready_does_not_begin_it() -> None:
    """Only the sampler's own word counts."""
    process = sampler(task(1, 7, -1, comm='"ready"'), ready(2), task(3, 7, 0))
    record(process)
    assert len(process.says) == 1


def test_a_sampler_that_fails() -> None:
    """It ends at once, or with a code in the end: an error, not an empty timeline."""
    with pytest.raises(HarnessError, match="ended at once, with code 1"):
        record(sampler(task(1, 7, -1), code=1))
    recorder = record(sampler(ready(2), code=2))
    with pytest.raises(HarnessError, match="ended with code 2"):
        recorder.stop()


def test_a_recording_ends_with_its_block() -> None:
    """The sampler does not outlive the with block."""
    process = sampler(ready(1))
    guest = ScriptedGuest()
    guest.programs["klp-sampler"] = lambda args: process
    with recording(guest, interval_ms=5):
        assert guest.calls == ["spawn klp-sampler 5"]
    assert process.heard == ["end of input"]


def test_the_error_of_the_block_is_raised() -> None:
    """An error in the block is not replaced by one of the recording that it broke."""
    guest = ScriptedGuest()
    guest.programs["klp-sampler"] = lambda args: sampler(ready(1), code=2)
    with pytest.raises(ZeroDivisionError), recording(guest):
        raise ZeroDivisionError


def test_salvage_from_a_dead_guest() -> None:
    """What had come before the guest died is the timeline; without a first sample there is none."""

    class Dying(ScriptedProcess):
        def lines(self, deadline: Deadline) -> Iterator[str]:
            yield from super().lines(deadline)
            raise LostGuest("QEMU is gone")

    process = Dying(pid=9, says=deque(json.dumps(line) for line in THERE_AND_BACK))
    assert legs(record(process).salvage()) == legs(read(*THERE_AND_BACK))
