# SPDX-License-Identifier: GPL-2.0-only
"""A template as the processes of a run share it: one has booted it, the others find it.

Its RAM and its layer of the disk are files without a name, which live as long as a process has them
open. The owner says by which descriptors they are reached. These numbers may mean other files once
the owner has closed the template, or has ended, so it also says which files they were.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.vm.guest.snapshot import STATE, Template
from harness.vm.guest.ssh_exchange import SshExchange
from harness.vm.host.files import replace_text

if TYPE_CHECKING:
    from harness.vm.guest.qemu import GuestShape

_OWNER = "owner.json"
_EXCHANGE = "ssh-exchange.json"


def publish(saved: Template, folder: Path) -> None:
    """Write down, in the template's folder, where other processes find it; raises OSError."""
    if saved.ssh is not None:
        saved.ssh.write(folder / _EXCHANGE)
    paths = {"ram": saved.ram_path, "disk": saved.disk_path}
    known = {name: (path, _identity(path)) for name, path in paths.items() if path}
    replace_text(folder / _OWNER, json.dumps(known))


def adopt(folder: Path, shape: GuestShape, opened: contextlib.ExitStack) -> Template | None:
    """Open another process's template, when there is one and its owner has it open.

    What ``opened`` holds then keeps it even when the owner ends before we do.
    """
    with contextlib.ExitStack() as trying:
        try:
            known = json.loads((folder / _OWNER).read_text())
            saved = Template(
                shape=shape,
                ram_path=_held(known["ram"], trying),
                state_path=Path(_opened(folder / STATE, os.O_RDONLY, trying)),
                disk_path=_held(known["disk"], trying) if shape.root is not None else None,
                ssh=SshExchange.read(folder / _EXCHANGE) if shape.ssh else None,
            )
        except (OSError, ValueError):
            return None
        opened.enter_context(trying.pop_all())
        return saved


def _held(known: tuple[str, list[int]], opened: contextlib.ExitStack) -> str:
    """Return a path of that file of the owner, opened here; raises OSError, also for another."""
    path, identity = known
    here = _opened(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY, opened)
    if _identity(here) != identity:
        raise FileNotFoundError(f"{path} is another file now")
    return here


def _opened(path: str | Path, flags: int, opened: contextlib.ExitStack) -> str:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _identity(path: str) -> list[int]:
    found = Path(path).stat()
    return [found.st_dev, found.st_ino]
