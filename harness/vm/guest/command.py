# SPDX-License-Identifier: GPL-2.0-only
"""Commands that the agent runs in the guest to their end."""

from __future__ import annotations

import contextlib
import errno
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.agent_protocol import Spawned
from harness.errors import KlpError
from harness.vm.guest.agent import check_reply
from harness.vm.guest.spawned import SpawnedProcess
from harness.vm.host.process import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.deadline import Deadline
    from harness.vm.guest.agent_link import AgentLink

# A request is a line of at most 8 MiB, in which a byte may take three.
_INPUT_MOST = 2 << 20
# What a shell says of what it cannot execute (POSIX, 2.8.2).
_NOT_THERE = {errno.ENOENT: (127, "not found"), errno.EACCES: (126, "Permission denied")}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that ended in the guest. ``code`` is negative when a signal ended it."""

    command: str
    code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it ended with exit code 0."""
        return self.code == 0


def run_command(link: AgentLink, argv: Sequence[str], *, stdin: bytes, deadline: Deadline) -> Ran:
    """Run a command to the end of its output, and return its exit code and output.

    Raises TimeoutError when it did not end in time, and was killed; LostConnection when the agent
    ended, and how the guest ended when it did.
    """
    command = command_line(argv)
    reply = link.call("spawn", *argv, deadline=deadline)
    if reply.get("errno") in _NOT_THERE:
        code, why = _NOT_THERE[reply["errno"]]
        return Ran(command=command, code=code, stdout="", stderr=f"{argv[0]}: {why}\n")
    process = SpawnedProcess(link, Spawned.of(check_reply(reply, argv[0])).pid, argv[0])
    output = process.output
    try:
        _feed(link, process, stdin, deadline)
        if not link.wait_for_agent(lambda: output.exit is not None, deadline):
            raise TimeoutError(f"`{command}` did not end in time in the guest")
    except BaseException:
        with contextlib.suppress(OSError, KlpError):
            link.agent.send("signal", f"-{process.pid}", str(int(signal.SIGKILL)))
        raise
    ended = output.exit
    assert ended is not None
    link.agent.forget(process.pid)
    return Ran(
        command=command,
        code=ended.code if ended.code is not None else -(ended.signal or 0),
        stdout=output.text("stdout"),
        stderr=output.text("stderr"),
    )


def _feed(link: AgentLink, process: SpawnedProcess, data: bytes, deadline: Deadline) -> None:
    """Send standard input; a command that ends without reading it is judged by its exit code."""
    try:
        for start in range(0, len(data), _INPUT_MOST):
            text = data[start : start + _INPUT_MOST].decode(errors="surrogateescape")
            link.request("stdin", str(process.pid), text, deadline=deadline)
        link.request("close-stdin", str(process.pid), deadline=deadline)
    except (BrokenPipeError, ProcessLookupError):
        pass
    except TimeoutError:
        raise TimeoutError("the guest does not take the input of a command") from None
