# SPDX-License-Identifier: GPL-2.0-only
"""Tasks and their patch states, against a scripted guest."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline
from harness.errors import TransitionNotHeld, TransitionTimeout, UsageError, WrongAttribute
from harness.livepatch.tasks import PatchState, TaskHandle, Tasks
from tests.unit.scripted_guest import ScriptedGuest, ScriptedTask


@pytest.fixture
def guest() -> ScriptedGuest:
    guest = ScriptedGuest()
    guest.scripted_tasks = [
        ScriptedTask(tid=1, comm="init", patch_state=1),
        ScriptedTask(tid=2, comm="kthreadd", patch_state=1, kthread=True),
        ScriptedTask(tid=40, comm="sleeper", patch_state=0, state="D", stack="[<0>] f+0x1/0x2\n"),
        ScriptedTask(tid=41, comm="sleeper", pid=40, patch_state=0),
    ]
    return guest


def test_states_that_occur(guest: ScriptedGuest) -> None:
    """states() has each state once, and can leave tasks out."""
    tasks = Tasks(guest)
    assert tasks.states() == {PatchState.UNPATCHED, PatchState.PATCHED}
    assert tasks.states(but=tasks.find("sleeper")) == {PatchState.PATCHED}
    assert tasks.states(but=tasks.get(40)) == {PatchState.UNPATCHED, PatchState.PATCHED}


def test_a_kernel_without_patch_states_is_refused(guest: ScriptedGuest) -> None:
    """A kernel without /proc/PID/patch_state is a usage error, not a state of all tasks."""
    guest.scripted_tasks[0].patch_state = None
    with pytest.raises(UsageError, match="patch_state"):
        Tasks(guest).states()


def test_find(guest: ScriptedGuest) -> None:
    """Tasks are found by name, threads too; a name longer than the kernel keeps finds its rest."""
    guest.scripted_tasks.append(ScriptedTask(tid=50, comm="a-very-long-nam"))
    tasks = Tasks(guest)
    assert [task.tid for task in tasks.find("sleeper")] == [40, 41]
    assert [task.tid for task in tasks.find("a-very-long-name-indeed")] == [50]
    assert tasks.find("nobody") == []
    with pytest.raises(ProcessLookupError):
        tasks.get(99)


def test_in_state(guest: ScriptedGuest) -> None:
    """in_state() has the tasks of that state only."""
    assert [task.tid for task in Tasks(guest).in_state(PatchState.UNPATCHED)] == [40, 41]


def test_handle(guest: ScriptedGuest) -> None:
    """A handle reads the guest each time, and equals another handle of its task only."""
    task = Tasks(guest).get(40)
    assert task.patch_state is PatchState.UNPATCHED
    assert task.state == "D"
    assert task.stack() == ("[<0>] f+0x1/0x2",)
    guest.scripted_tasks[2].patch_state = -1
    assert int(task.patch_state) == -1
    assert task == TaskHandle(guest, 40, comm="renamed", pid=40, kthread=False)
    assert task != Tasks(guest).get(41)
    assert task != TaskHandle(ScriptedGuest(), 40, comm="sleeper", pid=40, kthread=False)
    assert len({task, Tasks(guest).get(40)}) == 1


@pytest.mark.parametrize("text", ["", "seven", "7"])
def test_a_patch_state_that_is_none(
    guest: ScriptedGuest, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """It is the kernel's fault, with the file's name."""
    task = Tasks(guest).get(40)
    monkeypatch.setattr(guest, "read", lambda path: text)
    with pytest.raises(WrongAttribute, match="/proc/40/patch_state"):
        _ = task.patch_state


def test_a_name_with_brackets_hides_no_state(guest: ScriptedGuest) -> None:
    """The scheduler state is found behind whatever a task calls itself."""
    guest.scripted_tasks[2].comm = "x) S (y"
    assert Tasks(guest).get(40).state == "D"


def test_alive(guest: ScriptedGuest) -> None:
    """A zombie and a task that has gone are not alive."""
    task = Tasks(guest).get(40)
    assert task.alive
    guest.scripted_tasks[2].state = "Z"
    assert not task.alive
    del guest.scripted_tasks[2]
    assert not task.alive
    with pytest.raises(FileNotFoundError):
        _ = task.patch_state


def test_wait_all_returns_when_the_last_has_switched(guest: ScriptedGuest) -> None:
    """Waiting goes on until every task is there, and the guest does it, by one call."""
    late = guest.scripted_tasks[2:]
    for task in late:
        guest.later(lambda task=task: setattr(task, "patch_state", 1))  # type: ignore[misc]
    Tasks(guest).wait_all(PatchState.PATCHED)
    assert Tasks(guest).states() == {PatchState.PATCHED}
    assert guest.calls.count("poll-tasks 1 []") == 1


def test_wait_all_but(guest: ScriptedGuest) -> None:
    """One task or several can be left out."""
    tasks = Tasks(guest)
    tasks.wait_all(PatchState.PATCHED, but=tasks.find("sleeper"))
    with pytest.raises(TransitionTimeout):
        tasks.wait_all(PatchState.PATCHED, but=tasks.get(40))


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ((0, 0), None),
        ((0, 1), r"task 41 \(sleeper\) does not hold .* PATCHED, not UNPATCHED"),
        ((-1, 0), r"task 40 \(sleeper\) does not hold .* UNDEFINED, not UNPATCHED"),
    ],
)
def test_whoever_holds_a_transition_has_the_other_state(
    states: tuple[int, int], told: str | None, guest: ScriptedGuest
) -> None:
    """A task in held_by= that has switched is an error: else a slow transition would pass."""
    tasks = Tasks(guest)
    for task, state in zip(guest.scripted_tasks[2:], states, strict=True):
        task.patch_state = state
    if told is None:
        tasks.wait_all(PatchState.PATCHED, held_by=tasks.find("sleeper"))
        tasks.wait_all(PatchState.PATCHED, but=tasks.get(40), held_by=tasks.get(41))
        return
    with pytest.raises(TransitionNotHeld, match=told):
        tasks.wait_all(PatchState.PATCHED, held_by=tasks.find("sleeper"))


def test_the_end_of_a_transition_that_should_be_held(guest: ScriptedGuest) -> None:
    """Then no task will ever switch: nobody waits for them until the deadline."""
    for task in guest.scripted_tasks:
        task.patch_state = -1
    tasks = Tasks(guest)
    with pytest.raises(TransitionNotHeld, match=r"task 40 .* UNDEFINED, not UNPATCHED"):
        tasks.wait_all(PatchState.PATCHED, held_by=tasks.find("sleeper"))
    assert guest.calls.count("poll-tasks 1 [40, 41]") == 1


@pytest.mark.parametrize("exits", [False, True])
def test_a_transition_that_is_held_and_slow(guest: ScriptedGuest, exits: bool) -> None:
    """Looks at whoever holds it change nothing: what is waited for, how long, what is raised."""
    tasks = Tasks(guest)
    sleeper = tasks.get(41)
    if exits:
        del guest.scripted_tasks[3]
    with pytest.raises(TransitionTimeout, match="1 task did not switch"):
        tasks.wait_all(PatchState.PATCHED, held_by=sleeper, deadline=Deadline.after(0.2))
    assert guest.calls.count("poll-tasks 1 [41]") > 1
    assert {deadline.expired for deadline in guest.deadlines} == {True}


def test_wait_all_names_the_stragglers(guest: ScriptedGuest) -> None:
    """The time-out has each task that did not switch, its state and its stack."""
    with pytest.raises(TransitionTimeout, match=r"2 tasks did not switch to PATCHED") as caught:
        Tasks(guest).wait_all(PatchState.PATCHED)
    assert caught.value.details[0] == "task 40 (sleeper): state D, patch state 0"
    assert caught.value.details[1] == "  [<0>] f+0x1/0x2"
    assert caught.value.details[2].startswith("task 41 (sleeper)")


def test_a_straggler_that_exits_meanwhile(guest: ScriptedGuest) -> None:
    """A task that exits while it is described is reported as that."""
    guest.fail("stack 40", ProcessLookupError())
    with pytest.raises(TransitionTimeout) as caught:
        Tasks(guest).wait_all(PatchState.PATCHED)
    assert caught.value.details[0] == "task 40 (sleeper): has exited"


def test_wait_state(guest: ScriptedGuest) -> None:
    """One task can be waited for."""
    task = Tasks(guest).get(40)
    guest.later(lambda: setattr(guest.scripted_tasks[2], "patch_state", 1))
    task.wait_state(PatchState.PATCHED)
    with pytest.raises(TransitionTimeout, match=r"task 40 \(sleeper\) did not .* UNPATCHED"):
        task.wait_state(PatchState.UNPATCHED)


def test_wait_gone(guest: ScriptedGuest) -> None:
    """A task's end can be waited for."""
    task = Tasks(guest).get(41)
    with pytest.raises(TransitionTimeout, match="did not exit"):
        task.wait_gone()
    guest.later(guest.scripted_tasks.pop)
    task.wait_gone()


def test_the_guests_own_errors_pass(guest: ScriptedGuest) -> None:
    """An error of the guest is raised as it is."""
    guest.fail("poll-tasks", TransitionTimeout("as if the guest had died"))
    with pytest.raises(TransitionTimeout, match="as if"):
        Tasks(guest).wait_all(PatchState.PATCHED)


def test_deadlines(guest: ScriptedGuest) -> None:
    """A deadline that is given is kept; the default grows with the guest's slowness."""
    guest.time_scale = 10.0
    tasks = Tasks(guest)
    task = tasks.get(1)
    for deadline in (Deadline.after(7), None):
        guest.deadlines.clear()
        tasks.wait_all(PatchState.PATCHED, but=tasks.find("sleeper"), deadline=deadline)
        task.wait_state(PatchState.PATCHED, deadline)
        with pytest.raises(TransitionTimeout):
            task.wait_gone(deadline)
        assert len(guest.deadlines) == 3
        if deadline is not None:
            assert set(guest.deadlines) == {deadline}
        else:
            assert min(each.remaining_s for each in guest.deadlines) > 60


def test_sample(guest: ScriptedGuest) -> None:
    """sample() has every thread at one moment."""
    assert [task.tid for task in Tasks(guest).sample().tasks] == [1, 2, 40, 41]
