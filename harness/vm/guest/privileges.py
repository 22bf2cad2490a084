# SPDX-License-Identifier: GPL-2.0-only
"""QEMU without root's rights, where root runs the harness.

QEMU is started as another user from its first instruction on (setpriv), since QEMU's own -runas has
two faults here: it clears the signal that ends QEMU with the harness (prctl(2), PR_SET_PDEATHSIG),
and the sandbox's elevateprivileges=deny forbids it. So QEMU can open none of root's files by their
paths. It gets RAM, kernel and initrd as descriptors, and opens them through /proc/self/fd.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.log import LOGGER
from harness.vm.guest.qemu import own_fd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.guest.qemu import GuestShape, Wiring

USER = "nobody"
_KVM = Path("/dev/kvm")


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user and the groups as whom QEMU runs."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Started:
    """How one QEMU is started: wiring, the descriptors it inherits, and options of setpriv(1)."""

    wiring: Wiring
    descriptors: tuple[int, ...]
    rights: tuple[str, ...] = ()


def as_whom(shape: GuestShape, wiring: Wiring, opened: contextlib.ExitStack) -> Started:
    """Return how to start QEMU with as few rights as it can do with.

    What it then inherits is closed with ``opened``, once it has started. A guest that is recorded
    keeps this user's rights: QEMU writes the recording to files by their paths. Raises OSError.
    """
    layers = wiring.layers.descriptors if wiring.layers is not None else ()
    descriptors = [wiring.serial_fd, wiring.monitor_fd, *layers]
    descriptors += [fd for fd in (wiring.agent_fd, wiring.ssh_fd) if fd is not None]
    account = None if shape.recording is not None else qemu_account()
    if account is None:
        return Started(wiring=wiring, descriptors=tuple(descriptors))
    if wiring.ram_path is not None:
        ram = os.open(wiring.ram_path, os.O_RDWR | os.O_CLOEXEC)
        opened.callback(os.close, ram)
        descriptors.append(ram)
        wiring = replace(wiring, ram_path=own_fd(ram))
    if not wiring.incoming:
        kernel = opened.enter_context(descriptor_of(shape.image))
        initrd = opened.enter_context(descriptor_of(shape.initrd))
        descriptors += [kernel, initrd]
        wiring = replace(wiring, kernel_fd=kernel, initrd_fd=initrd)
    if shape.plugin is not None and wiring.plugin is not None:
        library = opened.enter_context(descriptor_of(shape.plugin.library))
        shared = os.open(wiring.plugin[1], os.O_RDWR | os.O_CLOEXEC)
        opened.callback(os.close, shared)
        os.fchown(shared, account.uid, account.gid)
        descriptors += [library, shared]
        wiring = replace(wiring, plugin=(own_fd(library), own_fd(shared)))
    groups = ",".join(str(group) for group in account.groups)
    return Started(
        wiring=wiring,
        descriptors=tuple(descriptors),
        rights=(
            f"--reuid={account.uid}",
            f"--regid={account.gid}",
            f"--groups={groups}" if groups else "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--no-new-privs",
        ),
    )


def qemu_account() -> Account | None:
    """Return as whom QEMU is started; None where this user is not root, or cannot be left.

    In some containers there is no other user; a line in the log says so.
    """
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(USER)
        with descriptor_of(None) as probe:
            os.fchown(probe, user.pw_uid, user.pw_gid)
    except (KeyError, OSError) as error:
        LOGGER.warning("QEMU keeps root's rights: the user %s cannot be used: %s", USER, error)
        return None
    groups: tuple[int, ...] = ()
    with contextlib.suppress(OSError):
        groups = (_KVM.stat().st_gid,)
    # Group 0 would be a right of root's.
    return Account(uid=user.pw_uid, gid=user.pw_gid, groups=tuple(g for g in groups if g))


@contextlib.contextmanager
def descriptor_of(path: Path | None) -> Iterator[int]:
    """Give a descriptor of a copy of a file, in memory, that any user may open once more.

    Raises OSError.
    """
    copy = os.memfd_create("klp-harness")
    try:
        if path is not None:
            with path.open("rb") as file:
                while os.sendfile(copy, file.fileno(), None, 1 << 30):
                    pass
        yield copy
    finally:
        os.close(copy)
