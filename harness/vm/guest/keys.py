# SPDX-License-Identifier: GPL-2.0-only
"""Keys of one run: made fresh, private to the user, pinned on both sides."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from harness.errors import HarnessError
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline

_RSA_BITS, _RSA_EXPONENT = 2048, 65537


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
    client_public = _make_client_key(client_key)
    return RunKeys(
        host_key=host_key,
        host_public=host_public,
        client_key=client_key,
        client_public=client_public,
    )


def _make_client_key(path: Path) -> str:
    """Write a new private key, readable by its owner only, and return its public half.

    RSA: of all kinds that dropbear takes, a guest under emulation is through with its signature
    first.
    """
    key = rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode()


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
