# SPDX-License-Identifier: GPL-2.0-only
"""From the bodies that calls ran to a place in the table LEAVE x SWITCH. Pure.

The table is Vojtech Pavlik's (live-patching list, November 2014). LEAVE: what execution has to be
out of before it gets new functions. SWITCH: what gets them at a time, and never a part of it.

A call of the sample target's outer function shows which body of it ran, and which body of the inner
function that one called. Four such calls find the place:

=========  =========================================================================================
inside     by a task that slept inside the old outer while the patch was loaded
free       by a task that came from user mode, while the other still slept there
beside     by a task that slept in the same system call, in no patched function, with the patched
           functions empty
between    by a task that came from user mode while the patch's first object had been handed to
           ftrace and its second had not
=========  =========================================================================================

- inside meets the new inner: leaving a function is enough. Otherwise beside meets the old ones: it
  takes leaving the kernel. Otherwise it takes leaving the set of patched functions.
- One thread that meets old and new at a time: functions switch one by one. Otherwise free meets the
  old ones because somebody else is not out yet: the kernel switches as a whole. Otherwise threads
  switch one by one.

So LEAVE_FUNCTION never comes with SWITCH_THREAD or SWITCH_KERNEL. A task that runs the old outer
and meets the new inner is in both at once, whatever was switched: a kernel that does not wait has
given up all consistency, as that mail says of a patch applied without a check of the stacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.errors import KernelVerdict
from harness.tools.models.results import Leave, Switch


class Body(StrEnum):
    """Which body of a function a call ran."""

    OLD = "old"
    NEW = "new"


@dataclass(frozen=True, kw_only=True)
class Calls:
    """The bodies that one task met, the first called first."""

    bodies: tuple[Body, ...]

    @classmethod
    def parse(cls, text: str) -> Calls:
        """Return the calls that a line of the target's files lists; raises ValueError."""
        return cls(bodies=tuple(Body(word) for word in text.split()))

    @property
    def mixed(self) -> bool:
        """Whether the task met old and new."""
        return len(set(self.bodies)) > 1

    def all(self, body: Body) -> bool:
        """Return whether all of them were that one."""
        return set(self.bodies) == {body}

    def __str__(self) -> str:
        if self.mixed:
            return ", then ".join(self.bodies)
        return f"{self.bodies[0]} only"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The bodies that the four calls ran. ``inside`` is outer (always old) and inner."""

    inside: Calls
    free: Calls
    beside: Calls
    between: Calls


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A place in the table."""

    leave: Leave
    switch: Switch

    def __str__(self) -> str:
        return f"{self.leave}, {self.switch}"


def find_cell(seen: Seen) -> Cell:
    """Return the place that fits the observations.

    Raises KernelVerdict when none fits: the kernel is inconsistent in a way that no model has.
    """
    return Cell(leave=find_leave(seen), switch=find_switch(seen))


def find_forced(inside: Calls, kernel: Cell) -> Cell:
    """Return the place of a task that was forced: nothing has changed unless it is in both."""
    return Cell(leave=Leave.FUNCTION, switch=Switch.FUNCTION) if inside.mixed else kernel


def find_leave(seen: Seen) -> Leave:
    """Return what execution has to leave; raises KernelVerdict for a contradiction."""
    if seen.inside.mixed:
        if seen.beside.all(Body.OLD):
            raise KernelVerdict(
                "a task inside a patched function met new functions, one outside them did not: "
                "this is no model of the table"
            )
        return Leave.FUNCTION
    if seen.beside.all(Body.OLD):
        return Leave.KERNEL
    return Leave.PATCHED_SET


def find_switch(seen: Seen) -> Switch:
    """Return what gets the new functions at a time."""
    if any(calls.mixed for calls in (seen.inside, seen.free, seen.beside, seen.between)):
        return Switch.FUNCTION
    return Switch.KERNEL if seen.free.all(Body.OLD) else Switch.THREAD
