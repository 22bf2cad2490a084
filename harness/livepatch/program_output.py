# SPDX-License-Identifier: GPL-2.0-only
"""Lines of JSON that the guest programs klp-gate and klp-fork print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.agent_protocol import read_object
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.livepatch.guest import GuestProcess


def next_object(
    process: GuestProcess, program: str, deadline: Deadline, *, key: str | None = None
) -> dict[str, Any]:
    """Return the next line of a program, which has to be a JSON object that has the key.

    Raises HarnessError for anything else and when the program has ended, and TimeoutError.
    """
    try:
        line = process.next_line(deadline)
    except EOFError:
        raise HarnessError(
            f"{program} ended early, with code {process.wait(deadline)}",
            hint="/dev/klp_gate exists once the module klp_target_gate is loaded",
        ) from None
    found = read_object(line)
    if found is None or (key is not None and key not in found):
        expected = "a JSON object" if key is None else repr(key)
        raise HarnessError(f"{program} printed {line!r} where {expected} was expected")
    return found


def wait_success(process: GuestProcess, program: str, deadline: Deadline) -> None:
    """Wait until the program has ended; raises HarnessError when it failed, and TimeoutError."""
    code = process.wait(deadline)
    if code:
        raise HarnessError(f"{program} ended with code {code}")
