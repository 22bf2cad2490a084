# SPDX-License-Identifier: GPL-2.0-only
"""The host's end of the agent: replies find their requests, events their programs."""

from __future__ import annotations

import errno
import json
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import GuestPanic, HarnessError, LostConnection
from harness.vm.guest.agent import AgentClient, check_reply
from harness.vm.guest.events import GuestEvents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class FakeStream:
    """A channel whose other end is the test."""

    def __init__(self) -> None:
        self.sent: queue.Queue[str] = queue.Queue()
        self._incoming: queue.Queue[bytes] = queue.Queue()

    def receive(self) -> bytes:
        return self._incoming.get()

    def send(self, data: bytes, deadline: Deadline) -> None:
        self.sent.put(data.decode())

    def close(self) -> None:
        self._incoming.put(b"")

    def say(self, data: bytes) -> None:
        self._incoming.put(data)

    def reply(self, **message: object) -> None:
        self.say(json.dumps(message).encode() + b"\n")


@pytest.fixture
def stream() -> FakeStream:
    return FakeStream()


@pytest.fixture
def agent(stream: FakeStream) -> Iterator[AgentClient]:
    client = AgentClient(stream, GuestEvents())
    yield client
    client.close()


def nothing() -> None:
    """What a wait does between looks."""


def soon() -> Deadline:
    return Deadline.after(5)


def _reply_to(agent: AgentClient, number: int) -> Mapping[str, Any]:
    replies: list[Mapping[str, Any]] = []

    def taken() -> bool:
        reply = agent.take(number)
        if reply is not None:
            replies.append(reply)
        return bool(replies)

    assert wait_until(taken, soon())
    return replies[0]


def test_reply_finds_its_request(agent: AgentClient, stream: FakeStream) -> None:
    """Replies may come in any order and in any pieces."""
    first, second = agent.send("read", "/a"), agent.send("read", "/b")
    whole = b"".join(
        json.dumps({"id": number, "errno": 0, "text": text}).encode() + b"\n"
        for number, text in ((second, "b"), (first, "a"))
    )
    for n in range(len(whole)):
        stream.say(whole[n : n + 1])
    for number, text in ((first, "a"), (second, "b")):
        assert _reply_to(agent, number)["text"] == text


def test_no_reply_in_time(agent: AgentClient, stream: FakeStream) -> None:
    """Without a reply a call ends at its deadline, and a late reply is dropped."""
    with pytest.raises(TimeoutError, match="tasks"):
        agent.call("tasks", deadline=Deadline.after(0.05), between=nothing)
    number = int(stream.sent.get().split()[0])
    stream.reply(id=number, errno=0)
    stream.reply(id=number + 1, errno=0, text="next")
    reply = agent.call("read", "/x", deadline=soon(), between=nothing)
    assert reply["text"] == "next"
    assert agent.take(number) is None


def test_channel_ends_while_waiting(agent: AgentClient, stream: FakeStream) -> None:
    """The channel's end is LostConnection, at once and not at the deadline."""
    threading.Timer(0.05, stream.close).start()
    with pytest.raises(LostConnection):
        agent.call("tasks", deadline=Deadline.after(60), between=nothing)


def test_death_ends_the_wait(agent: AgentClient) -> None:
    """What the look at the guest raises ends the wait."""

    def dead() -> None:
        raise GuestPanic("the guest panicked: for the test")

    with pytest.raises(GuestPanic):
        agent.call("tasks", deadline=Deadline.after(60), between=dead)


def test_output_is_kept_for_its_program(agent: AgentClient, stream: FakeStream) -> None:
    """Lines and exits are kept by process id, also those that come before anyone asks."""
    stream.reply(event="line", pid=7, stream="stdout", text="one")
    stream.reply(event="line", pid=8, stream="stdout", text="other")
    stream.reply(event="line", pid=7, stream="stderr", text="oh")
    stream.reply(event="exit", pid=7, code=3, signal=None)
    assert wait_until(lambda: agent.output(7).exit is not None, soon())
    output = agent.output(7)
    assert list(output.stdout) == ["one"]
    assert output.stderr == ["oh"]
    assert output.exit is not None
    assert output.exit.code == 3
    assert list(agent.output(8).stdout) == ["other"]


def test_noise_does_not_end_the_reader(agent: AgentClient, stream: FakeStream) -> None:
    """A line that is no message is remembered as a fault; what follows is still understood."""
    number = agent.send("hello")
    stream.say(b"Segmentation fault\n")
    stream.reply(id=number, errno=0)
    assert _reply_to(agent, number)["errno"] == 0
    with pytest.raises(HarnessError, match="no message"):
        agent.check()


def test_errno_becomes_the_matching_error() -> None:
    """The guest's errno is raised as the OSError that Python has for it, with the path."""
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        check_reply({"id": 1, "errno": errno.ENOENT}, "/nowhere")
    assert check_reply({"id": 1, "errno": 0, "text": ""}, "/x")["text"] == ""


def test_a_message_nobody_understands_is_told(agent: AgentClient, stream: FakeStream) -> None:
    """A fault in our reader is a HarnessError where somebody waits, and no guest that hangs."""
    threading.Timer(0.05, stream.reply, kwargs={"event": "line", "pid": "seven"}).start()
    with pytest.raises(HarnessError, match="cannot be read"):
        agent.call("tasks", deadline=Deadline.after(60), between=nothing)


def test_output_is_as_it_was_written(agent: AgentClient, stream: FakeStream) -> None:
    """With the newline at its end or without it, and a line in parts is one line again."""
    for text, partial in (("one", False), ("a long", True), (" line", False), ("end", True)):
        stream.reply(event="line", pid=7, stream="stdout", text=text, partial=partial)
    stream.reply(event="line", pid=7, stream="stderr", text="oh")
    stream.reply(event="exit", pid=7, code=0, signal=None)
    assert wait_until(lambda: agent.output(7).exit is not None, soon())
    output = agent.output(7)
    assert list(output.stdout) == ["one", "a long line", "end"]
    assert output.text("stdout") == "one\na long line\nend"
    assert output.text("stderr") == "oh\n"
    agent.forget(7)
    assert agent.output(7).exit is None
