# SPDX-License-Identifier: GPL-2.0-only
"""Deadlines that suit a guest, and waiting for a file of it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import guest_error

if TYPE_CHECKING:
    from harness.agent_protocol import Op
    from harness.livepatch.guest import Guest

# The kernel tries once a second to switch the tasks that are left, and sends fake signals after 15
# rounds (kernel/livepatch/transition.c, SIGNALS_TIMEOUT): a shorter wait fails good patches.
TRANSITION_S = 30.0
QUICK_S = 10.0


def scaled(guest: Guest, seconds: float) -> Deadline:
    """Return a deadline: so many seconds on fast hardware, more in a slower guest."""
    return Deadline.after(seconds * guest.time_scale)


def poll(guest: Guest, path: str, op: Op, value: str = "", *, deadline: Deadline) -> bool:
    """Wait in the guest until the file meets the condition; False when the deadline came first.

    Raises OSError when the file cannot be read for another reason than that it does not exist.
    """
    outcome = guest.poll_file(path, op, value, deadline=deadline)
    if outcome.errno == errno.ETIMEDOUT:
        return False
    if outcome.errno:
        raise guest_error(outcome.errno, None, path)
    return True
