# SPDX-License-Identifier: GPL-2.0-only
"""Files that the host copies into a guest, each of them once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import LostConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.vm.guest.agent_link import AgentLink
    from harness.vm.guest.command import Ran

_UPLOAD_S = 30.0
# A request is a line of at most 8 MiB, in which a byte may take three.
_BY_REQUEST_MOST = 2 << 20
_SCRIPT = 'mkdir -p "$1" && cat >"$2"'


class Uploads:
    """The files that one guest has been sent, below the folder ``place`` there."""

    def __init__(self, link: AgentLink, place: str, run: Callable[..., Ran]) -> None:
        """``run`` is the machine's own, for what is too large for a request to the agent."""
        self._link = link
        self._run = run
        self._place = place
        self._sent: dict[tuple[Path, int, int], str] = {}

    def add_present(self, there: Mapping[Path, str]) -> None:
        """Record that the guest has these files already, by their paths in the guest."""
        for path, target in there.items():
            self._sent[_identity(path)] = target

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on the host that the guest has."""
        return tuple(path for path, _, _ in self._sent)

    def send(self, path: Path) -> str:
        """Copy a file and return its path in the guest; one that is there is not sent again.

        Raises LostConnection, or OSError with the guest's errno.
        """
        identity = _identity(path)
        known = self._sent.get(identity)
        if known is not None:
            return known
        folder = f"{self._place}/{len(self._sent)}"
        target = f"{folder}/{path.name}"
        self._write(folder, target, path.read_bytes())
        self._sent[identity] = target
        return target

    def source_of(self, target: str) -> Path | None:
        """Return the host's file that the guest has at that path; None for one not sent."""
        return next((key[0] for key, path in self._sent.items() if path == target), None)

    def _write(self, folder: str, target: str, data: bytes) -> None:
        deadline = self._link.scaled(_UPLOAD_S)
        if len(data) <= _BY_REQUEST_MOST:
            # By the agent: a program that writes it would have to be started first.
            text = data.decode(errors="surrogateescape")
            self._link.request("create", target, text, deadline=deadline)
            return
        command = ["sh", "-c", _SCRIPT, "upload", folder, target]
        ran = self._run(command, stdin=data, deadline=deadline)
        if not ran.ok:
            raise LostConnection(f"cannot write {target} in the guest: {ran.stderr.strip()}")


def _identity(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path.resolve(), status.st_mtime_ns, status.st_size
