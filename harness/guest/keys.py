# SPDX-License-Identifier: GPL-2.0-only
"""Keys of one run: made fresh, private to the user, pinned on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.guest.ssh import make_client_key
from harness.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline


@dataclass(frozen=True, kw_only=True)
class RunKeys:
    """Paths and public halves; ``client_key`` is a PEM file, ``host_key`` is in dropbear's form."""

    host_key: Path
    host_public: str
    client_key: Path
    client_public: str


def make_keys(folder: Path, *, deadline: Deadline) -> RunKeys:
    """Make the guest's host key and the client's key in ``folder``, which must be private.

    Raises HarnessError when dropbearkey prints no public key, MissingTool when it is not installed.
    """
    host_key = folder / "host_key"
    client_key = folder / "client_key"
    # What an attempt that was broken off has left: dropbearkey writes over nothing.
    host_key.unlink(missing_ok=True)
    host_public = _make_host_key(host_key, deadline=deadline)
    client_public = make_client_key(client_key)
    return RunKeys(
        host_key=host_key,
        host_public=host_public,
        client_key=client_key,
        client_public=client_public,
    )


def load_keys(folder: Path, host_public: str, client_public: str) -> RunKeys:
    """Return the keys that another process of the same run made in ``folder``."""
    return RunKeys(
        host_key=folder / "host_key",
        host_public=host_public,
        client_key=folder / "client_key",
        client_public=client_public,
    )


def _make_host_key(path: Path, *, deadline: Deadline) -> str:
    made = run(["dropbearkey", "-t", "ed25519", "-f", path], deadline=deadline.within(20))
    path.chmod(0o600)
    for line in made.stdout.splitlines():
        if line.startswith("ssh-ed25519 "):
            return " ".join(line.split()[:2])
    raise HarnessError(f"dropbearkey printed no public key for {path}")
