# SPDX-License-Identifier: GPL-2.0-only
"""The host's end of the guest agent: requests by number, replies and events from one reader."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.agent_protocol import (
    EVENT,
    EndedEvent,
    ExitEvent,
    LineEvent,
    ReadyEvent,
    encode_request,
    read_object,
)
from harness.deadline import Deadline
from harness.errors import HarnessError, LostConnection, guest_error
from harness.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.vm.guest.events import GuestEvents

_SEND_S = 30.0
_CLOSE_S = 5.0


class Stream(Protocol):
    """A connection to an agent that runs."""

    def receive(self) -> bytes:
        """Return the next bytes from the agent, b"" at their end; blocks."""

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send to the agent; raises LostConnection, or TimeoutError."""

    def close(self) -> None:
        """End it, and ``receive``."""


class SpawnedOutput:
    """What a program spawned in the guest has written so far, in lines."""

    def __init__(self) -> None:
        self.stdout: deque[str] = deque()
        self.stderr: list[str] = []
        # The streams of which the last line has no newline yet.
        self.partial: set[str] = set()
        self.exit: ExitEvent | None = None
        # It has ended, and another process may write more.
        self.ended: EndedEvent | None = None

    def add(self, event: LineEvent) -> None:
        """Add what it wrote; the rest of a line whose beginning is still here is joined to that."""
        lines = self.stdout if event.stream == "stdout" else self.stderr
        if event.stream in self.partial and lines:
            lines[-1] += event.text
        else:
            lines.append(event.text)
        self.partial.discard(event.stream)
        if event.partial:
            self.partial.add(event.stream)

    def text(self, stream: Literal["stdout", "stderr"]) -> str:
        """Return one of its outputs as it was written."""
        lines = self.stdout if stream == "stdout" else self.stderr
        end = "" if stream in self.partial or not lines else "\n"
        return "\n".join(lines) + end


class AgentClient:
    """Speaks to one agent over one stream. Safe to use from several threads."""

    def __init__(self, stream: Stream, events: GuestEvents) -> None:
        self._stream = stream
        self._events = events
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._replies: dict[int, Mapping[str, Any]] = {}
        self._abandoned: set[int] = set()
        self._spawned: dict[int, SpawnedOutput] = {}
        self._failure: Exception | None = None
        self.ended = False
        self._thread = threading.Thread(target=self._read, name="agent", daemon=True)
        self._thread.start()

    def call(
        self, verb: str, *args: str, deadline: Deadline, between: Callable[[], None]
    ) -> Mapping[str, Any]:
        """Send a request and return its reply, whatever its errno.

        ``between`` is called while waiting and may raise. Raises TimeoutError when no reply came
        in time, LostConnection when the channel ended.
        """
        number = self.send(verb, *args)
        try:
            self._await(number, deadline, between, verb)
        except BaseException:
            with self._lock:
                self._abandoned.add(number)
            raise
        with self._lock:
            return self._replies.pop(number)

    def send(self, verb: str, *args: str) -> int:
        """Send a request and return its number, for ``take``."""
        number = next(self._numbers)
        with self._send_lock:
            self._stream.send(encode_request(number, verb, args), Deadline.after(_SEND_S))
        return number

    def take(self, number: int) -> Mapping[str, Any] | None:
        """Return the reply to a request, once; None when it has not arrived."""
        with self._lock:
            return self._replies.pop(number, None)

    def output(self, pid: int) -> SpawnedOutput:
        """Return the output collected for a spawned program."""
        with self._lock:
            return self._spawned.setdefault(pid, SpawnedOutput())

    def forget(self, pid: int) -> None:
        """Drop the output of a program that has ended: another one may get its number."""
        with self._lock:
            self._spawned.pop(pid, None)

    def check(self) -> None:
        """Raise HarnessError when what the agent says is not read any more, or not understood."""
        if self._failure is not None:
            raise HarnessError(
                f"what the guest agent says cannot be read: {self._failure!r}",
                hint="this is a fault of klp-harness, and says nothing about the kernel: report it",
            )

    def close(self) -> None:
        """End the agent, and with it all that it started."""
        self._stream.close()
        self._thread.join(_CLOSE_S)

    def _await(
        self, number: int, deadline: Deadline, between: Callable[[], None], verb: str
    ) -> None:
        def answered() -> bool:
            with self._lock:
                return number in self._replies

        def alive() -> None:
            between()
            self.check()
            if self.ended and not answered():
                raise LostConnection("the guest agent ended while a request was open")

        if not self._events.wait(answered, deadline, between=alive):
            raise TimeoutError(f"the guest did not answer `{verb}` in time")

    def _read(self) -> None:
        try:
            self._read_lines()
        except Exception as error:  # noqa: BLE001 - raised by `check` where somebody waits
            LOGGER.debug("the agent's reader failed", exc_info=True)
            self._failure = error
        self.ended = True
        self._events.notify()

    def _read_lines(self) -> None:
        partial = b""
        while data := self._stream.receive():
            *lines, partial = (partial + data).split(b"\n")
            for line in lines:
                try:
                    self._take_line(line)
                except ValueError as error:
                    LOGGER.error("the guest agent sent what cannot be read: %s", error)
                    self._failure = error
            self._events.notify()

    def _take_line(self, line: bytes) -> None:
        message = read_object(line)
        number = message.get("id") if message is not None else None
        if message is not None and "event" in message:
            self._take_event(message)
        elif message is None or not isinstance(number, int):
            # It may have been a reply that somebody waits for: silence would look like a hang.
            raise ValueError(f"a line that is no message: {line[:200]!r}")
        else:
            self._take_reply(number, message)

    def _take_reply(self, number: int, message: Mapping[str, Any]) -> None:
        with self._lock:
            if number in self._abandoned:
                self._abandoned.discard(number)
            else:
                self._replies[number] = message

    def _take_event(self, message: Mapping[str, Any]) -> None:
        event = EVENT.validate_python(message)
        if isinstance(event, ReadyEvent):
            return
        with self._lock:
            output = self._spawned.setdefault(event.pid, SpawnedOutput())
            match event:
                case LineEvent():
                    output.add(event)
                case ExitEvent():
                    output.exit = event
                case EndedEvent():
                    output.ended = event


def errno_of(reply: Mapping[str, Any]) -> int:
    """Return a reply's errno, 0 for success. Raises HarnessError for what is no reply."""
    number = reply.get("errno")
    if not isinstance(number, int):
        raise HarnessError(f"the guest agent answered without an errno: {dict(reply)!r}"[:300])
    return number


def check_reply(reply: Mapping[str, Any], subject: str) -> Mapping[str, Any]:
    """Return the reply when its errno is 0.

    Raises OSError with the guest's errno and the path or name that it is about, HarnessError for
    what is no reply.
    """
    number = errno_of(reply)
    if number:
        raise guest_error(number, reply.get("error"), subject)
    return reply
