# SPDX-License-Identifier: GPL-2.0-only
"""A program that a test started in the guest and listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.deadline import Deadline
    from harness.vm.guest.agent_link import AgentLink


class SpawnedProcess:
    """Implements harness.livepatch.guest.GuestProcess."""

    def __init__(self, link: AgentLink, pid: int, program: str) -> None:
        self._link = link
        self.output = link.agent.output(pid)
        """What it has written, and how it ended, as far as that is known."""
        self.pid = pid
        self.program = program

    def next_line(self, deadline: Deadline) -> str:
        """Return the next line of its standard output.

        Raises EOFError when it ended, TimeoutError when the deadline came first.
        """
        output = self.output
        arrived = self._link.wait_for_agent(
            lambda: bool(output.stdout) or output.exit is not None, deadline
        )
        if not arrived:
            raise TimeoutError(f"{self.program} wrote nothing in time")
        if output.stdout:
            return output.stdout.popleft()
        raise EOFError(f"{self.program} has ended{self._last_errors()}")

    def lines(self, deadline: Deadline) -> Iterator[str]:
        """Yield lines of its standard output until it ends."""
        while True:
            try:
                yield self.next_line(deadline)
            except EOFError:
                return

    def write_line(self, text: str) -> None:
        """Write a line to its standard input."""
        self._link.request("stdin", str(self.pid), text + "\n")

    def close_stdin(self) -> None:
        """End its standard input."""
        self._link.request("close-stdin", str(self.pid))

    def signal(self, number: int) -> None:
        """Send it a signal; raises ProcessLookupError when it has ended."""
        self._link.request("signal", str(self.pid), str(number))

    def wait(self, deadline: Deadline) -> int:
        """Return its exit code, negative when a signal ended it; raises TimeoutError.

        A process that it left behind does not matter, even when that has its output open.
        """
        output = self.output
        if not self._link.wait_for_agent(lambda: bool(output.exit or output.ended), deadline):
            raise TimeoutError(f"{self.program} did not end in time")
        ended = output.exit or output.ended
        assert ended is not None
        return ended.code if ended.code is not None else -(ended.signal or 0)

    def _last_errors(self) -> str:
        lines = "; ".join(self.output.stderr[-3:])
        return f"; its standard error ends with: {lines}" if lines else ""
