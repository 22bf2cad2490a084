# SPDX-License-Identifier: GPL-2.0-only
"""Requests to the guest agent, and waits; each of them ends when the guest ends."""

from __future__ import annotations

import contextlib
import errno
import time
from typing import TYPE_CHECKING, Any

from harness.deadline import Deadline
from harness.errors import HarnessError, KlpError, LostConnection
from harness.vm.guest.agent import AgentClient, check_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.vm.guest.agent import Stream
    from harness.vm.guest.backend import Backend

REQUEST_S = 15.0
_POLL_MS = 20
# After so long without an answer the agent is asked whether it still runs; when it does not answer
# that for as long as a slow guest may need, the guest hangs.
_PING_AFTER_S = 2.0
HANG_AFTER_S = 6.0
# A guest that got less of the CPU gets more time, up to so many times of it.
_MOST_PATIENCE = 4


class AgentLink:
    """The agent of one guest, as long as it is connected. ``time_scale`` multiplies deadlines."""

    def __init__(self, backend: Backend, time_scale: float) -> None:
        self._backend = backend
        self._agent: AgentClient | None = None
        self.time_scale = time_scale

    def scaled(self, seconds: float) -> Deadline:
        """Return a deadline for something that takes so many seconds on quick hardware."""
        return Deadline.after(seconds * self.time_scale)

    def open(self, stream: Stream) -> None:
        """Connect to the agent at the other end of that stream."""
        self._agent = AgentClient(stream, self._backend.events)

    def close(self) -> None:
        """End the agent, if there is one."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def wait(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait on the host until the condition holds; return False when the deadline came first.

        Raises how the guest ended when it ends meanwhile.
        """
        since_s = time.monotonic()
        with self.explained():
            if self._backend.events.wait(condition, deadline, between=self.watch()):
                return True
            self._backend.require_ran(since_s)
            # To find out takes time, in which it may have come true.
            return condition()

    def wait_for_agent(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        """As ``wait``, for what only the agent reports; raises LostConnection when it has ended."""
        agent = self.agent
        with self.explained():
            if not self.wait(lambda: condition() or agent.ended, deadline):
                return False
            if not condition():
                raise LostConnection("the guest's agent has ended")
            return True

    @property
    def agent(self) -> AgentClient:
        """The connection to the guest agent; raises LostConnection when there is none."""
        if self._agent is None:
            raise LostConnection("this guest is not connected")
        return self._agent

    def request(self, verb: str, *args: str, deadline: Deadline | None = None) -> Any:
        """Send the agent one request and return its reply; raises OSError with its errno."""
        reply = self.call(verb, *args, deadline=deadline)
        self.check_alive(reply, verb, args[0] if args else "")
        return check_reply(reply, args[0] if args else "")

    def call(self, verb: str, *args: str, deadline: Deadline | None = None) -> Any:
        """Send the agent one request and return its reply, whatever its errno."""
        deadline = deadline or self.scaled(REQUEST_S)
        with self.explained():
            return self.agent.call(verb, *args, deadline=deadline, between=self.watch())

    def require_ran(self, since_s: float) -> None:
        """Raise unless the guest could run since that moment of ``time.monotonic()``.

        To be called before a wait in vain becomes a verdict.
        """
        with self.explained():
            self._backend.require_ran(since_s)

    def patient_call(self, verb: str, *args: str, deadline: Deadline) -> Any:
        """Have the guest wait until the deadline, and allow its answer time to arrive."""
        timeout_ms = str(int(deadline.remaining_s * 1000))
        answer = Deadline.after(deadline.remaining_s + REQUEST_S * self.time_scale)
        since_s = time.monotonic()
        reply = self.call(verb, *args, timeout_ms, str(_POLL_MS), deadline=answer)
        self.check_alive(reply, verb, args[0])
        if reply.get("errno") == errno.ETIMEDOUT:
            self.require_ran(since_s)
        return reply

    def check_alive(self, reply: Mapping[str, Any], verb: str, subject: str) -> None:
        """Raise when the child that served a request was killed: an oops does that."""
        killed = reply.get("killed")
        if killed is None:
            return
        self._backend.settle()
        raise self._backend.explain(
            HarnessError(f"the task that served `{verb} {subject}` was killed by signal {killed}")
        )

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a broken connection into its cause, and add console and logs to every error.

        A TimeoutError and a LostConnection pass only if the guest could run meanwhile.
        """
        since_s = time.monotonic()
        try:
            yield
        except TimeoutError:
            self._require_ran(since_s)
            raise
        except LostConnection as error:
            self._backend.settle()
            self._require_ran(since_s)
            raise self._backend.explain(error) from None
        except KlpError as error:
            raise self._backend.explain(error) from None

    def _require_ran(self, since_s: float) -> None:
        try:
            self._backend.require_ran(since_s)
        except KlpError as error:
            raise self._backend.explain(error) from None

    def watch(self) -> Callable[[], None]:
        """Return what a wait calls repeatedly. It raises how the guest ended, or GuestHang.

        Before that is said, the guest must have been able to run for half of the time in which it
        should have answered; then also a GuestStarved may be raised, or a GuestStopped.
        """
        started = time.monotonic()
        ping: int | None = None
        pinged = 0.0

        def watch() -> None:
            nonlocal ping, pinged, started
            self._backend.check()
            now = time.monotonic()
            if self._agent is None:
                return
            self._agent.check()
            if self._agent.ended:
                return
            if ping is None:
                if now - started > _PING_AFTER_S * self.time_scale:
                    ping, pinged = self._agent.send("hello"), now
            elif self._agent.take(ping) is not None:
                ping, started = None, now
            elif now - pinged > (allowed_s := HANG_AFTER_S * self.time_scale) and (
                now - pinged > _MOST_PATIENCE * allowed_s
                or self._backend.could_run_s(pinged) > allowed_s / 2
            ):
                raise self._backend.end_hung(now - started)

        return watch
