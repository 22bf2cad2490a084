# SPDX-License-Identifier: GPL-2.0-only
"""Deadlines for a guest, and what a wait inside it came to."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from harness.deadline import Deadline

if TYPE_CHECKING:
    from harness.agent_protocol import FilePoll, Op
    from harness.livepatch.guest import Guest

# The kernel looks once a second at what blocks a transition and wakes sleepers after 15 rounds
# (kernel/livepatch/transition.c, SIGNALS_TIMEOUT): a shorter wait fails good patches.
TRANSITION_S = 30.0
QUICK_S = 10.0


def scaled(guest: Guest, seconds: float) -> Deadline:
    """Return a deadline for something that takes so many seconds on quick hardware."""
    return Deadline.after(seconds * guest.time_scale)


def poll(guest: Guest, path: str, op: Op, value: str = "", *, deadline: Deadline) -> bool:
    """Wait in the guest until the file meets the condition; False when the deadline came first.

    Raises OSError when the file can never be looked at (no permission, for example).
    """
    return _met(guest.poll_file(path, op, value, deadline=deadline), path)


def _met(outcome: FilePoll, path: str) -> bool:
    if outcome.errno == errno.ETIMEDOUT:
        return False
    if outcome.errno:
        raise OSError(outcome.errno, os.strerror(outcome.errno), path)
    return True
