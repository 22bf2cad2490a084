# SPDX-License-Identifier: GPL-2.0-only
"""A cluster of processes on this machine, that nobody else can use."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

from distributed import Security

from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError
from harness.vm.cluster.client import connected
from harness.vm.cluster.server import ServerOrder
from harness.vm.host.process import PIPE, spawn
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.vm.cluster.client import Cluster
    from harness.vm.host.process import Process

_START_S = 300.0
_LAST_LINES = 5


@contextlib.contextmanager
def local(workers: int, threads: int) -> Iterator[Cluster]:
    """Start a scheduler and workers here, processes that each do so many jobs at a time.

    They end with this context, or with this process. They listen on the loopback interface alone,
    open no HTTP port, and talk only to who has the key that is made here for them: whoever can talk
    to a scheduler can run code as its user. Raises HarnessError when they do not start.
    """
    deadline = Deadline.after(_START_S)
    with (
        temporary_folder("cluster") as folder,
        contextlib.ExitStack() as stack,
    ):
        security = Security.temporary()
        certificate, key = str(security.tls_ca_file), str(security.tls_client_key)
        note = folder / "scheduler.json"
        order = ServerOrder(certificate=certificate, key=key, note=str(note))
        scheduler = _start(folder, "scheduler", order, stack)
        wait_until(lambda: bool(_address_in(note)) or scheduler.poll() is not None, deadline)
        address = _address_in(note)
        if address is None:
            raise _does_not_start(folder, "scheduler")
        for number in range(workers):
            place = folder / f"worker{number}"
            order = ServerOrder(
                certificate=certificate,
                key=key,
                scheduler=address,
                folder=str(place),
                threads=threads,
            )
            _start(folder, place.name, order, stack)
        try:
            cluster = stack.enter_context(
                connected(
                    address,
                    workers=workers,
                    patience_s=deadline.remaining_s,
                    security=security,
                )
            )
        except HarnessError as error:
            raise _does_not_start(folder, f"worker{workers - 1}") from error
        yield cluster


def _start(
    folder: Path, name: str, order: ServerOrder, stack: contextlib.ExitStack
) -> Process[bytes]:
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    # -P: nothing is imported from the current folder.
    argv = [sys.executable, "-P", "-m", "harness.vm.cluster.server"]
    process = stack.enter_context(spawn(argv, stdin=PIPE, stdout=log, stderr=log))
    assert process.stdin is not None
    # One that has ended already is noticed by its silence, and its log says why.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(order.to_json().encode())
        process.stdin.close()
    return process


def _address_in(note: Path) -> str | None:
    """Return the address that a scheduler wrote; None while it has not, or not all of it."""
    try:
        return str(json.loads(note.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError):
        return None


def _does_not_start(folder: Path, name: str) -> HarnessError:
    lines = (folder / f"{name}.log").read_text(errors="replace").splitlines()
    return HarnessError(f"Dask's {name} does not start here", details=tuple(lines[-_LAST_LINES:]))
