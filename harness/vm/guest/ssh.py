# SPDX-License-Identifier: GPL-2.0-only
"""SSH to a guest: by its port or loopback, host key pinned, one key per run.

This alone uses paramiko.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, TypeVar

import paramiko
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from paramiko.kex_curve25519 import KexCurve25519

from harness.errors import HarnessError, LostConnection
from harness.vm.guest.receiving import receive
from harness.vm.guest.ssh_exchange import ExchangeLine, RepeatedExchange
from harness.vm.host.process import command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any, ClassVar

    from harness.deadline import Deadline
    from harness.vm.guest.events import GuestEvents
    from harness.vm.guest.keys import RunKeys

Asked = TypeVar("Asked")

LOOPBACK = "127.0.0.1"
_USER = "root"
# Leaves rsa-sha2-256, which dropbear accepts; paramiko would try rsa-sha2-512 first.
_OTHER_SIGNATURES = {"pubkeys": ["rsa-sha2-512", "ssh-rsa"]}
_EXCHANGE = "curve25519-sha256@libssh.org"
_FAILURES = (paramiko.SSHException, OSError, EOFError)

# The library also logs what it raises; the harness reports that once.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Stream:
    """One running command: its standard output as it arrives, its standard input."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def receive(self) -> bytes:
        """Return the next bytes of standard output, b"" at its end; blocks."""
        try:
            return receive(self._channel.recv)
        except _FAILURES:
            return b""

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Write to standard input; raises LostConnection, or TimeoutError while it is full."""
        self._channel.settimeout(max(deadline.remaining_s, 0.001))
        try:
            self._channel.sendall(data)
        except TimeoutError:
            raise
        except _FAILURES as error:
            raise LostConnection(f"the SSH channel to the guest ended: {error}") from error
        finally:
            self._channel.settimeout(None)

    def close(self) -> None:
        """Close the channel."""
        _close(self._channel)


class SshSession:
    """One authenticated connection."""

    def __init__(
        self,
        transport: paramiko.Transport,
        events: GuestEvents,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """``between`` is called several times a second while waiting, and may raise."""
        self._transport = transport
        self._events = events
        self._between = between

    def reach(self, port: int, deadline: Deadline) -> Stream:
        """Return a connection to a port of the guest's own loopback (RFC 4254, 7.2).

        Raises LostConnection when nothing listens there.
        """
        channel = self._open(deadline, kind="direct-tcpip", to=(LOOPBACK, port))
        return Stream(channel)

    def shell(self, term: str, columns: int, rows: int, deadline: Deadline) -> paramiko.Channel:
        """Start an interactive shell on a terminal of its own."""
        channel = self._open(deadline)

        def start() -> None:
            channel.get_pty(term, columns, rows)
            channel.invoke_shell()

        self._ask(start, "start a shell", deadline)
        return channel

    def pipe(self, argv: Sequence[str], deadline: Deadline) -> paramiko.Channel:
        """Start a command without a terminal and return its channel, for a person's pipe."""
        channel = self._open(deadline)
        # SSH carries one string, which the guest's shell splits again.
        command = command_line(argv)
        self._ask(lambda: channel.exec_command(command), "start a command", deadline)
        return channel

    def check(self, deadline: Deadline) -> None:
        """Raise LostConnection unless the server answers."""

        def request() -> None:
            # It knows no such request, and has to say so (RFC 4254, 4).
            self._transport.global_request("check@klp-harness", wait=True)
            if not self._transport.is_active():
                raise EOFError("the connection ended")

        self._ask(request, "reach SSH", deadline)

    def close(self) -> None:
        """Disconnect."""
        self._transport.close()

    def _open(
        self,
        deadline: Deadline,
        *,
        kind: str = "session",
        to: tuple[str, int] | None = None,
    ) -> paramiko.Channel:
        def open_channel() -> paramiko.Channel:
            timeout = max(deadline.remaining_s, 0.001)
            return self._transport.open_channel(kind, to, to and (LOOPBACK, 0), timeout=timeout)

        channel = self._ask(open_channel, "open an SSH channel", deadline)
        channel.settimeout(None)
        return channel

    def _ask(self, ask: Callable[[], Asked], what: str, deadline: Deadline) -> Asked:
        """Do what paramiko does without a look at the guest, some of it without a deadline.

        Raises LostConnection when it fails or the deadline comes first. The thread that does it
        ends with the connection at the latest.
        """
        done: list[Asked] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                done.append(ask())
            except Exception as error:  # noqa: BLE001 - raised below
                failed.append(error)
            self._events.notify()

        threading.Thread(target=work, name="ssh-ask", daemon=True).start()
        if not self._events.wait(lambda: bool(done or failed), deadline, between=self._between):
            raise LostConnection(f"cannot {what} in the guest in time")
        if done:
            return done[0]
        if isinstance(failed[0], _FAILURES):
            raise LostConnection(f"cannot {what} in the guest: {failed[0]}") from failed[0]
        raise failed[0]


def _client_key(path: Path) -> paramiko.RSAKey:
    # It is our own; to prove that its primes are primes takes longer than the connection.
    key = load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, RSAPrivateKey)
    return paramiko.RSAKey(key=key)


def reach(port: int, deadline: Deadline) -> socket.socket:
    """Return a connection to that port of the loopback; raises LostConnection."""
    timeout = max(deadline.remaining_s, 0.001)
    try:
        return socket.create_connection((LOOPBACK, port), timeout=timeout)
    except OSError as error:
        raise LostConnection(f"cannot reach the guest's SSH port: {error}") from error


class _SavedExchange(KexCurve25519):
    """The exchange of a connection whose transport knows the key for it."""

    transport: _SavedTransport

    def start_kex(self) -> None:
        super().start_kex()
        assert self.key is not None
        self.key = self.transport.key_for(self.key)


class _SavedTransport(paramiko.Transport):
    """Has the exchange of a line: what is random in it is the line's. Later ones are its own."""

    _kex_info: ClassVar[Mapping[str, Any]] = {_EXCHANGE: _SavedExchange}

    def __init__(self, line: ExchangeLine) -> None:
        # paramiko uses no more of a socket than an ExchangeLine has.
        super().__init__(line, disabled_algorithms=_OTHER_SIGNATURES)  # type: ignore[arg-type]
        self._line = line
        self.get_security_options().kex = (_EXCHANGE,)

    def key_for(self, made: X25519PrivateKey) -> X25519PrivateKey:
        if self.initial_kex_done:
            return made
        return X25519PrivateKey.from_private_bytes(self._line.private_key(made.private_bytes_raw()))

    def _send_kex_init(self) -> None:
        super()._send_kex_init()  # type: ignore[misc]
        if not self.initial_kex_done:
            assert self.local_kex_init is not None
            self.local_kex_init = self._latest_kex_init = self._line.kex_init(self.local_kex_init)


def connect(
    server: socket.socket | ExchangeLine,
    keys: RunKeys,
    *,
    events: GuestEvents,
    deadline: Deadline,
    between: Callable[[], None] = lambda: None,
) -> SshSession:
    """Return a session with the guest whose SSH server that line leads to, which it closes.

    ``between`` is called while waiting and may raise. Raises LostConnection when SSH does not
    answer in time, HarnessError when another host key than the pinned one answers.
    """

    def settled(what: str, done: threading.Event) -> None:
        if not events.wait(done.is_set, deadline, between=between):
            raise LostConnection(f"SSH to the guest failed: no answer in time ({what})")
        error = transport.get_exception()
        if error is not None:
            raise error
        if not transport.is_active():
            raise EOFError("the connection ended")

    timeout = max(deadline.remaining_s, 0.001)
    transport = (
        _SavedTransport(server)
        if isinstance(server, ExchangeLine)
        else paramiko.Transport(server, disabled_algorithms=_OTHER_SIGNATURES)
    )
    session = SshSession(transport, events, between)
    transport.banner_timeout = timeout
    transport.auth_timeout = timeout
    try:
        begun, authenticated = _Noticed(events), _Noticed(events)
        transport.start_client(event=begun)
        settled("greeting", begun)
        _check_host_key(transport, keys)
        transport.auth_publickey(_USER, _client_key(keys.client_key), event=authenticated)
        settled("authentication", authenticated)
        if not transport.is_authenticated():
            raise EOFError("the guest does not take this run's key")
        if isinstance(server, RepeatedExchange):
            session.check(deadline)
    except _FAILURES as error:
        transport.close()
        raise LostConnection(f"SSH to the guest failed: {error}") from error
    except BaseException:
        transport.close()
        raise
    return session


def _check_host_key(transport: paramiko.Transport, keys: RunKeys) -> None:
    seen = transport.get_remote_server_key()
    if f"{seen.get_name()} {seen.get_base64()}" != keys.host_public:
        raise HarnessError(
            "the guest's SSH port answers with a host key that is not this run's",
            hint="another program took the port; run again",
        )


class _Noticed(threading.Event):
    """An event that paramiko sets, and that wakes every wait for the guest."""

    def __init__(self, events: GuestEvents) -> None:
        super().__init__()
        self._events = events

    def set(self) -> None:
        """Set it, and wake who waits."""
        super().set()
        self._events.notify()


def _close(channel: paramiko.Channel) -> None:
    """Close a channel. Its connection may just have ended, which is reported elsewhere."""
    with contextlib.suppress(*_FAILURES):
        channel.close()
