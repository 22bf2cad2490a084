# SPDX-License-Identifier: GPL-2.0-only
"""How another process of this user asks the owner of a kept guest to do something with it.

One request a connection to a unix socket in the guest's folder, which this user alone can enter: a
line of JSON each way.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from harness.errors import HarnessError, KlpError
from harness.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SOCKET = "control"
_LOOK_S = 0.5
_REQUEST_S = 10.0
_MOST = 1 << 16


class ControlServer:
    """Serves requests in a thread of its own, one after the other, until it is closed."""

    def __init__(
        self, folder: Path, verbs: Mapping[str, Callable[[Mapping[str, str]], None]]
    ) -> None:
        """``verbs`` are called with the request's arguments; what they raise is the answer."""
        self._verbs = verbs
        self._end = threading.Event()
        self._socket = listening(folder, SOCKET)
        self._socket.settimeout(_LOOK_S)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._end.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    self._answer(connection)
                except (OSError, ValueError) as error:
                    LOGGER.debug("a request to the owner of a guest failed: %s", error)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(_REQUEST_S)
        request = json.loads(_line(connection))
        answer: dict[str, str] = {}
        try:
            self._verbs[request.pop("do")](request)
        except KlpError as error:
            answer["error"] = error.message
        except (OSError, KeyError) as error:
            answer["error"] = str(error)
        connection.sendall(json.dumps(answer).encode() + b"\n")


def ask(folder: Path, do: str, *, timeout_s: float, **arguments: str) -> None:
    """Have the owner of the guest in that folder do something; returns when it is done.

    Raises HarnessError with the owner's reason, or when it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection, short_path(folder) as place:
            connection.settimeout(timeout_s)
            connection.connect(f"{place}/{SOCKET}")
            connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(_line(connection))
    except (OSError, ValueError) as error:
        raise HarnessError(f"the process that keeps the guest does not answer: {error}") from error
    if "error" in answer:
        raise HarnessError(f"the guest's QEMU cannot do that: {answer['error']}")


def listening(folder: Path, name: str) -> socket.socket:
    """Return a unix socket that listens in a folder, at a path of any length; raises OSError."""
    made = socket.socket(socket.AF_UNIX)
    try:
        with short_path(folder) as place:
            made.bind(f"{place}/{name}")
        made.listen(1)
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """Give a path of the folder that fits into the 107 bytes of a unix socket's address."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < _MOST:
        more = connection.recv(_MOST)
        if not more:
            raise ValueError("the connection ended")
        data += more
    return data
