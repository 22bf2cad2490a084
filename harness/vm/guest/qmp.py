# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor, for callers in any thread: qemu.qmp runs in a thread of the monitor's own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import re
import threading
from typing import TYPE_CHECKING, Any

from qemu.qmp import EventListener, QMPClient, QMPError

from harness.errors import CommandTimeout, HarnessError, QemuFailed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Mapping

    from qemu.qmp import Message

    from harness.deadline import Deadline

_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+([0-9]{1,5})\s")
_CONNECT_S = 20.0
_CLOSE_S = 2.0
_LOOK_S = 0.25

# The library logs a guest that ends as an error; whether it is one, its user decides.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class _Client(QMPClient):
    """The library's client, whose hooks format each message for a log that is switched off."""

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg


class Monitor:
    """One guest's monitor. ``on_event`` is called from its thread with each event's name.

    ``between`` is called several times a second while QEMU is waited for, and may raise.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_event: Callable[[str, Mapping[str, Any]], None],
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_event = on_event
        self._between = between
        self._following: concurrent.futures.Future[None] | None = None
        self._client = _Client("guest")
        self._listener = EventListener()
        self._client.register_listener(self._listener)
        self._sock = sock
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="qmp", daemon=True)
        self._thread.start()

    def connect(self, deadline: Deadline) -> None:
        """Greet QEMU; raises QemuFailed when it does not answer."""
        self._wait(self._client.connect(self._sock), deadline.within(_CONNECT_S), "greeting")
        self._following = asyncio.run_coroutine_threadsafe(self._follow(), self._loop)

    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, deadline: Deadline
    ) -> Any:
        """Run a monitor command and return its result.

        Raises QemuFailed when QEMU refuses it or has ended, CommandTimeout when it does not answer.
        """
        return self._wait(self._client.execute(command, arguments), deadline, command)

    def status(self, *, deadline: Deadline) -> str:
        """Return QEMU's run state, for example ``running`` or ``paused`` (query-status)."""
        return str(self.execute("query-status", deadline=deadline)["status"])

    def problem(self) -> HarnessError | None:
        """Return why events are not heard any more, None while they are."""
        following = self._following
        if following is None or not following.done() or following.cancelled():
            return None
        error = following.exception()
        if error is None:
            return None
        return HarnessError(f"the events of QEMU's monitor cannot be read: {error!r}")

    def human(self, command: str, *, deadline: Deadline) -> str:
        """Run a command of the human monitor, for what QMP does not offer."""
        text = self.execute("human-monitor-command", {"command-line": command}, deadline=deadline)
        return str(text)

    def ssh_port(self, *, deadline: Deadline) -> int:
        """Return the loopback port that QEMU bound for the guest's SSH."""
        text = self.human("info usernet", deadline=deadline)
        return forwarded_port(text)

    def pass_fd(self, fd: int, name: str, *, deadline: Deadline) -> None:
        """Give QEMU a file descriptor under a name (getfd)."""

        async def send() -> object:
            self._client.send_fd_scm(fd)
            return await self._client.execute("getfd", {"fdname": name})

        self._wait(send(), deadline, "getfd")

    def close(self) -> None:
        """Disconnect, also when QEMU has ended."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._sock.close()

    def _serve(self) -> None:
        # On leaving, the runner cancels what is still going on in the loop, and closes it.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_end())

    async def _until_end(self) -> None:
        await self._end.wait()
        # Whatever ended the session is raised here, by a connect that was interrupted even an
        # AssertionError (qemu.qmp 0.0.3): it is over all the same.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.disconnect(), _CLOSE_S)

    async def _follow(self) -> None:
        async for event in self._listener:
            data: Any = event.get("data")
            self._on_event(str(event["event"]), data or {})

    def _wait(self, work: Coroutine[Any, Any, Any], deadline: Deadline, what: str) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not concurrent.futures.wait([future], min(_LOOK_S, deadline.remaining_s)).done:
                if deadline.expired:
                    raise CommandTimeout(f"QEMU's monitor did not answer `{what}` in time")
                self._between()
            return future.result()
        except (QMPError, OSError, EOFError) as error:
            raise QemuFailed(f"QEMU's monitor failed at `{what}`: {error}") from error
        finally:
            future.cancel()


def forwarded_port(text: str) -> int:
    """Return the port of the host in what ``info usernet`` prints; raises QemuFailed."""
    match = _FORWARD.search(text)
    if match is None:
        raise QemuFailed(
            "QEMU does not say which port it forwards to the guest's SSH",
            details=tuple(text.splitlines()),
        )
    return int(match[1])
