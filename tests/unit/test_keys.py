# SPDX-License-Identifier: GPL-2.0-only
"""The keys of a run: who can read them, and what the two sides are given."""

from __future__ import annotations

import shutil
import stat
from typing import TYPE_CHECKING

import paramiko
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from harness.deadline import Deadline
from harness.vm.guest.address import Address
from harness.vm.guest.keys import make_keys

if TYPE_CHECKING:
    from pathlib import Path

needs_dropbear = pytest.mark.skipif(
    shutil.which("dropbearkey", path="/usr/sbin:/usr/bin:/bin") is None, reason="no dropbearkey"
)


@needs_dropbear
def test_private_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Not even a file that an interrupted attempt left readable makes a key readable."""
    for name in ("host_key", "client_key"):
        (tmp_path / name).touch(mode=0o644)
    keys = make_keys(tmp_path, deadline=Deadline.after(30))
    for path in (keys.host_key, keys.client_key):
        assert path.stat().st_size > 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@needs_dropbear
def test_both_sides_get_the_other_ones_public_key(tmp_path: Path) -> None:
    """The client's public half fits its private one, and each run has keys of its own."""
    keys = make_keys(tmp_path, deadline=Deadline.after(30))
    private = paramiko.RSAKey.from_private_key_file(str(keys.client_key))
    assert keys.client_public == f"{private.get_name()} {private.get_base64()}"
    load_ssh_public_key(keys.host_public.encode())
    again = make_keys(tmp_path, deadline=Deadline.after(30))
    assert again.client_public != keys.client_public
    assert again.host_public != keys.host_public


def test_an_address_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It names port and keys of a guest, and comes back as it was written."""
    address = Address(
        port=1,
        host_public="ssh-ed25519 x",
        keys="/k",
        cpus=2,
        time_scale=1.5,
        folder="/f",
        qemu=7,
    )
    path = tmp_path / "address"
    address.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Address.read(path) == address
    with pytest.raises(FileExistsError):
        address.write(path)


@needs_dropbear
def test_what_an_interrupted_attempt_left_is_removed(tmp_path: Path) -> None:
    """dropbearkey writes aside first: a killed one leaves a private key of another name."""
    for name in ("host_key", "host_key.tmp123", "client_key"):
        (tmp_path / name).write_text("half a key")
    make_keys(tmp_path, deadline=Deadline.after(60))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["client_key", "host_key"]
