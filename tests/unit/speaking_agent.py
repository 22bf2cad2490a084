# SPDX-License-Identifier: GPL-2.0-only
"""The guest agent on this host: built as for a guest, and spoken to through pipes."""

from __future__ import annotations

import contextlib
import json
import os
import select
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.agent_protocol import encode_request
from harness.deadline import Deadline, wait_until
from harness.vm.host.process import PIPE, Process, run, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).resolve().parents[2] / "guest-programs"


def soon() -> Deadline:
    return Deadline.after(30)


def build(folder: Path, *programs: str) -> None:
    """Build guest programs into a folder, unless they are there."""
    targets = [f"{folder}/{program}" for program in programs]
    run(["make", "-C", PROGRAMS, f"OUT={folder}", *targets], deadline=Deadline.after(120))


class Agent:
    """An agent, its requests and what it says."""

    def __init__(self, child: Process[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self.child = child
        self._stdin = child.stdin
        self._stdout = child.stdout.fileno()
        self._partial = b""
        self._messages: list[dict[str, Any]] = []
        self._number = 0

    def raw(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def send(self, verb: str, *args: object) -> int:
        self._number += 1
        self.raw(encode_request(self._number, verb, [str(arg) for arg in args]))
        return self._number

    def ask(self, verb: str, *args: object) -> dict[str, Any]:
        return self.reply(self.send(verb, *args))

    def reply(self, number: int) -> dict[str, Any]:
        return self._take(lambda message: message.get("id") == number)

    def event(self, pid: int, kind: str) -> dict[str, Any]:
        return self._take(lambda message: message.get("event") == kind and message["pid"] == pid)

    def message(self) -> dict[str, Any]:
        return self._take(lambda message: True)

    def spawn(self, *argv: str) -> int:
        reply = self.ask("spawn", *argv)
        assert reply["errno"] == 0
        return int(reply["pid"])

    def close(self) -> int:
        self._stdin.close()
        return self.child.wait(timeout=soon().remaining_s)

    def children(self) -> list[int]:
        task = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def fds(self) -> int:
        """How many descriptors it and its children have open."""
        count = 0
        for pid in (self.child.pid, *self.children()):
            with contextlib.suppress(FileNotFoundError):  # one that is on its way out
                count += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return count

    def _take(self, wanted: Any) -> dict[str, Any]:
        deadline = soon()
        looked = 0
        while True:
            for index in range(looked, len(self._messages)):
                if wanted(self._messages[index]):
                    return self._messages.pop(index)
            looked = len(self._messages)
            assert select.select([self._stdout], [], [], deadline.remaining_s)[0], "no answer"
            data = os.read(self._stdout, 1 << 20)
            assert data, "the agent has ended"
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._messages += [json.loads(line.decode()) for line in lines]


@contextlib.contextmanager
def started(program: Path, *arguments: str) -> Iterator[Agent]:
    with spawn([program, *arguments], stdin=PIPE, stdout=PIPE) as child:
        agent = Agent(child)
        assert agent.message() == {"event": "ready"}
        yield agent


def stuck(agent: Agent, fifo: Path, count: int = 1) -> list[int]:
    """Let children of the agent block in the kernel until somebody opens the fifo."""
    numbers = [agent.send("read", fifo) for _ in range(count)]
    agent.ask("hello")  # requests are taken in their order
    return numbers


def release(agent: Agent, fifo: Path, count: int, data: bytes = b"") -> None:
    """Let so many stuck children go; one of them reads the data."""
    end = os.open(fifo, os.O_WRONLY)
    try:
        assert wait_until(lambda: readers(agent, fifo) == count, soon())
        os.write(end, data)
    finally:
        os.close(end)


def readers(agent: Agent, fifo: Path) -> int:
    """How many children of the agent have the fifo open."""
    count = 0
    for pid in agent.children():
        with contextlib.suppress(FileNotFoundError):  # one that is on its way out
            count += any(fd.readlink() == fifo for fd in Path(f"/proc/{pid}/fd").iterdir())
    return count


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
