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
    """The run's keys: private ones in files of ``folder``, public ones in OpenSSH's text form."""

    folder: Path
    host_public: str
    client_public: str

    @property
    def host_key(self) -> Path:
        """The guest's private key, in dropbear's format."""
        return self.folder / "host_key"

    @property
    def client_key(self) -> Path:
        """The harness's private key, a PEM file."""
        return self.folder / "client_key"


def make_keys(folder: Path, *, deadline: Deadline) -> RunKeys:
    """Make the guest's host key and the client's key in ``folder``, which must be private.

    Raises HarnessError when dropbearkey prints no public key, MissingTool when it is not installed.
    """
    keys = RunKeys(folder=folder, host_public="", client_public="")
    # What an interrupted attempt left: dropbearkey overwrites nothing, and writes the key aside.
    for path in (*folder.glob(f"{keys.host_key.name}*"), keys.client_key):
        path.unlink(missing_ok=True)
    return RunKeys(
        folder=folder,
        host_public=_make_host_key(keys.host_key, deadline=deadline),
        client_public=_make_client_key(keys.client_key),
    )


def _make_client_key(path: Path) -> str:
    """Write a new private key, readable by its owner only, and return its public half.

    RSA: of all kinds that dropbear accepts, its signature takes least time in an emulated guest.
    """
    key = rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode()


def _make_host_key(path: Path, *, deadline: Deadline) -> str:
    made = run(["dropbearkey", "-t", "ed25519", "-f", path], deadline=deadline.within(20))
    path.chmod(0o600)
    for line in made.stdout.splitlines():
        if line.startswith("ssh-ed25519 "):
            return " ".join(line.split()[:2])
    raise HarnessError(f"dropbearkey printed no public key for {path}")
