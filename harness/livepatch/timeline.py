# SPDX-License-Identifier: GPL-2.0-only
"""Transitions, and which tasks switched when, from the lines of klp-sampler. Pure.

Every time is that of the first sample with the change. What takes less time than the sampler's
interval of a few milliseconds is not seen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from harness.agent_protocol import read_object
from harness.errors import HarnessError
from harness.livepatch.tasks import PatchState

if TYPE_CHECKING:
    from collections.abc import Iterable

# More than the time between two samples, also in a slow guest.
_SAME_SAMPLE_US = 100_000
_SHOWN_CHARS = 200


class Direction(StrEnum):
    """The direction of a transition."""

    PATCHING = "patching"
    UNPATCHING = "unpatching"

    @property
    def reverse(self) -> Direction:
        """The other direction."""
        return Direction.UNPATCHING if self is Direction.PATCHING else Direction.PATCHING

    @property
    def target(self) -> PatchState:
        """The patch state to which tasks switch."""
        return PatchState.PATCHED if self is Direction.PATCHING else PatchState.UNPATCHED


@dataclass(frozen=True, kw_only=True)
class StateChange:
    """A task's patch state from that time on; None: the task has exited."""

    t_us: int
    state: PatchState | None


@dataclass(frozen=True, kw_only=True)
class TaskTrack:
    """All patch states that one thread was seen to have."""

    tid: int
    pid: int
    comm: str
    kthread: bool
    changes: tuple[StateChange, ...]


@dataclass(frozen=True, kw_only=True)
class PatchChange:
    """A patch's attributes from that time on; both None: the patch does not exist."""

    t_us: int
    enabled: bool | None
    transition: bool | None


@dataclass(frozen=True, kw_only=True)
class Leg:
    """A part of a transition in one direction. ``end_us`` is None when it had not ended."""

    direction: Direction
    start_us: int
    end_us: int | None


@dataclass(frozen=True, kw_only=True)
class Transition:
    """A transition of a patch; it has more than one leg when it was reversed."""

    patch: str
    legs: tuple[Leg, ...]

    @property
    def start_us(self) -> int:
        """When it was first seen, by the guest's monotonic clock."""
        return self.legs[0].start_us

    @property
    def end_us(self) -> int | None:
        """When it was first seen to have ended; None when it had not."""
        return self.legs[-1].end_us

    @property
    def reversed_us(self) -> tuple[int, ...]:
        """When it was reversed."""
        return tuple(leg.start_us for leg in self.legs[1:])


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A task that switched from one patch state to the other in a transition."""

    t_us: int
    task: TaskTrack
    before: PatchState
    after: PatchState


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A recording. Times are microseconds of the guest's monotonic clock."""

    tasks: tuple[TaskTrack, ...]
    patches: dict[str, tuple[PatchChange, ...]]
    start_us: int
    end_us: int

    def transitions(self, patch: str | None = None) -> tuple[Transition, ...]:
        """Return the transitions of one patch or of all, by their start."""
        found = [
            transition
            for name, changes in self.patches.items()
            if patch in (None, name)
            for transition in _transitions(name, changes)
        ]
        return tuple(sorted(found, key=lambda transition: transition.start_us))

    def switches(self, transition: Transition) -> tuple[Switch, ...]:
        """Return the tasks that switched in a transition, in the order of time.

        A task that was undefined (-1) in one sample and has the new state in the next, or that is
        undefined again without having been seen in the new state, switched between two samples: it
        counts with the time of the later one. A task that was created meanwhile counts when it was
        seen in the old state.
        """
        # All tasks are undefined between two transitions: a state that is seen before the
        # transition itself is seen belongs to it already.
        ends = [other.end_us for other in self.transitions() if other is not transition]
        since_us = max(
            (end_us for end_us in ends if end_us is not None and end_us <= transition.start_us),
            default=-1,
        )
        found = [
            switch for task in self.tasks for switch in _task_switches(task, transition, since_us)
        ]
        return tuple(sorted(found, key=lambda switch: (switch.t_us, switch.task.tid)))


def read_timeline(lines: Iterable[str]) -> Timeline:
    """Return the timeline of what klp-sampler printed.

    Raises HarnessError for a line that it cannot have printed, and for a recording without a
    complete first sample.
    """
    reader = _Reader()
    for line in lines:
        said = read_object(line)
        if said is None:
            raise HarnessError(
                f"klp-sampler printed {line[:_SHOWN_CHARS]!r}, which is no JSON object"
            )
        try:
            reader.take(said)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            shown = repr(line[:_SHOWN_CHARS])
            raise HarnessError(f"klp-sampler printed {shown}: {error!r}") from error
    return reader.timeline()


def is_ready(line: str) -> bool:
    """Return whether klp-sampler printed with this line that its first sample is complete."""
    said = read_object(line)
    return said is not None and "ready" in said


class _Sampled(BaseModel):
    """A task in a sample; strict, because a number in place of a name would show much later."""

    model_config = ConfigDict(frozen=True, strict=True)

    tid: int
    pid: int
    comm: str
    kthread: bool
    patch_state: int


class _Reader:
    def __init__(self) -> None:
        self._tracks: list[_Sampled] = []
        self._current: dict[int, int] = {}
        self._changes: dict[int, list[StateChange]] = defaultdict(list)
        self._patches: dict[str, list[PatchChange]] = defaultdict(list)
        self._start_us: int | None = None
        self._end_us = 0

    def take(self, said: dict[str, Any]) -> None:
        t_us = int(said["t_us"])
        self._end_us = max(self._end_us, t_us)
        if "ready" in said:
            self._start_us = t_us
        elif "gone" in said:
            self._gone(t_us, int(said["gone"]))
        elif "transition" in said or "enabled" in said:
            self._patch(t_us, said)
        else:
            self._task(t_us, _Sampled.model_validate(said))

    def timeline(self) -> Timeline:
        if self._start_us is None:
            raise HarnessError("klp-sampler ended before its first sample was complete")
        tasks = tuple(
            TaskTrack(
                tid=task.tid,
                pid=task.pid,
                comm=task.comm,
                kthread=task.kthread,
                changes=tuple(self._changes[number]),
            )
            for number, task in enumerate(self._tracks)
        )
        return Timeline(
            tasks=tasks,
            patches={name: tuple(changes) for name, changes in self._patches.items()},
            start_us=self._start_us,
            end_us=self._end_us,
        )

    def _task(self, t_us: int, task: _Sampled) -> None:
        number = self._current.get(task.tid)
        if number is None or self._tracks[number].pid != task.pid:
            self._gone(t_us, task.tid)
            number = self._current[task.tid] = len(self._tracks)
            self._tracks.append(task)
        # A program may rename itself: the last name counts.
        self._tracks[number] = task
        state = PatchState(task.patch_state)
        changes = self._changes[number]
        if not changes or changes[-1].state is not state:
            changes.append(StateChange(t_us=t_us, state=state))

    def _gone(self, t_us: int, tid: int) -> None:
        number = self._current.pop(tid, None)
        if number is not None:
            self._changes[number].append(StateChange(t_us=t_us, state=None))

    def _patch(self, t_us: int, said: dict[str, Any]) -> None:
        for key in ("transition", "enabled"):
            for name, value in (said.get(key) or {}).items():
                known = self._patches[name]
                last = known[-1] if known else None
                now = {
                    "enabled": last.enabled if last else None,
                    "transition": last.transition if last else None,
                    key: None if value is None else bool(value),
                }
                known.append(PatchChange(t_us=t_us, **now))


def _transitions(name: str, changes: tuple[PatchChange, ...]) -> list[Transition]:
    """Return the transitions in the history of a patch.

    ``enabled`` changes after the transition has started: the pre-callbacks run in between
    (kernel/livepatch/core.c, __klp_enable_patch() and __klp_disable_patch()). So the value before
    gives the direction, the first change belongs to the start, and each further one is a reversal.
    """
    found: list[Transition] = []
    legs: list[Leg] = []
    settled = False
    flipped = False
    for change in changes:
        enabled = bool(change.enabled)
        if not legs:
            if change.transition and found and _is_same_start(found[-1], change, settled):
                # The sampler reads one attribute after the other: at first it saw ``enabled`` only.
                legs = [_leg(found[-1].legs[0].direction, found.pop().start_us)]
                flipped = True
            elif change.transition:
                direction = Direction.UNPATCHING if settled else Direction.PATCHING
                legs = [Leg(direction=direction, start_us=change.t_us, end_us=None)]
                flipped = enabled is not settled
            elif enabled is not settled:
                # It began and ended between two samples.
                direction = Direction.PATCHING if enabled else Direction.UNPATCHING
                whole = Leg(direction=direction, start_us=change.t_us, end_us=change.t_us)
                found.append(Transition(patch=name, legs=(whole,)))
                settled = enabled
            continue
        reached = enabled is (legs[-1].direction is Direction.PATCHING)
        if change.transition and flipped and not reached:
            legs = [*_ended(legs, change.t_us), _leg(legs[-1].direction.reverse, change.t_us)]
        elif not change.transition:
            found.append(Transition(patch=name, legs=tuple(_ended(legs, change.t_us))))
            legs, settled = [], enabled
        flipped = flipped or reached
    if legs:
        found.append(Transition(patch=name, legs=tuple(legs)))
    return found


def _is_same_start(last: Transition, change: PatchChange, settled: bool) -> bool:
    """Return whether a transition that seemed to be over at once is the one that is seen now."""
    return (
        last.start_us == last.end_us
        and bool(change.enabled) is settled
        and change.t_us - last.start_us < _SAME_SAMPLE_US
    )


def _leg(direction: Direction, start_us: int) -> Leg:
    return Leg(direction=direction, start_us=start_us, end_us=None)


def _ended(legs: list[Leg], end_us: int) -> list[Leg]:
    last = legs[-1]
    return [*legs[:-1], Leg(direction=last.direction, start_us=last.start_us, end_us=end_us)]


def _task_switches(task: TaskTrack, transition: Transition, since_us: int) -> list[Switch]:
    first, last = transition.legs[0].direction, transition.legs[-1].direction
    end_us = transition.end_us
    before = StateChange(t_us=-1, state=None)
    found: list[Switch] = []
    for change in task.changes:
        switched: PatchState | None = None
        if since_us < change.t_us and (end_us is None or change.t_us <= end_us):
            moved = {before.state, change.state} == {PatchState.UNPATCHED, PatchState.PATCHED}
            came = before.state is PatchState.UNDEFINED and change.state is first.target
            if moved or came:
                switched = change.state
        # The sample with the end may have read the task's state just before.
        left_unseen = (
            change.state is PatchState.UNDEFINED
            and before.state is last.reverse.target
            and end_us is not None
            and since_us < before.t_us <= end_us
        )
        if left_unseen:
            switched = last.target
        if switched is not None:
            origin = PatchState.UNPATCHED if switched else PatchState.PATCHED
            found.append(Switch(t_us=change.t_us, task=task, before=origin, after=switched))
        before = change
    return found
