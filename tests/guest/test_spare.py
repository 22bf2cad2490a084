# SPDX-License-Identifier: GPL-2.0-only
"""Spare guests: they are fresh, have logs of their own, and none outlives its run."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from harness.deadline import Deadline, wait_until
from harness.vm.guest.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

MARK = "/tmp/mark"


def _qemus() -> set[int]:
    """The processes of QEMU that this process started and that live."""
    processes = psutil.process_iter(["name", "ppid", "status"])
    return {
        process.pid
        for process in processes
        if process.info["ppid"] == os.getpid()
        and "qemu" in process.info["name"]
        and process.info["status"] != psutil.STATUS_ZOMBIE
    }


@pytest.mark.slow(7)
def test_each_guest_from_the_reserve_is_fresh(
    kernel: Kernel, klp_session: Session, tmp_path: Path
) -> None:
    """The second guest was started while the first was used, and knows nothing of it."""
    store, settings = klp_session.store, klp_session.settings
    before = _qemus()
    with Session(tmp_path / "run", settings, store) as session:
        with session.guest(kernel, name="first") as guest:
            guest.run(["touch", MARK])
            first = guest.hypervisor.pid
            assert wait_until(lambda: len(_qemus() - before) == 2, Deadline.after(30))
            waiting = _qemus() - before - {first}
        with session.guest(kernel, name="second") as guest:
            assert {guest.hypervisor.pid} == waiting
            assert not guest.run(["test", "-e", MARK]).ok
            assert guest.folder.name.startswith("second-")
            assert (guest.folder / "console.log").exists()
    assert _qemus() == before
    assert not list((tmp_path / "run/guests").glob("clone-*"))


@pytest.mark.slow(7)
def test_a_guest_that_died_in_reserve_is_replaced(
    kernel: Kernel, klp_session: Session, tmp_path: Path
) -> None:
    """Nobody notices but the log: the next guest is started as the first one was."""
    store, settings = klp_session.store, klp_session.settings
    before = _qemus()
    with Session(tmp_path / "run", settings, store) as session:
        with session.guest(kernel) as guest:
            first = guest.hypervisor.pid
            assert wait_until(lambda: len(_qemus() - before) == 2, Deadline.after(30))
            (waiting,) = _qemus() - before - {first}
        os.kill(waiting, signal.SIGKILL)
        assert wait_until(lambda: waiting not in _qemus(), Deadline.after(10))
        with session.guest(kernel) as guest:
            assert guest.hypervisor.pid != waiting
            assert guest.run(["true"]).ok
    assert _qemus() == before
