# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that does not boot is not waited for by every test of a run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BootFailed, GuestPanic, KlpError, QemuFailed
from harness.vm.guest import session as session_module
from harness.vm.guest.boot_failures import MOST_BOOTS
from harness.vm.guest.run_initrd import RunInitrd
from harness.vm.guest.session import GuestSettings, Session
from harness.vm.host.accel import Accel
from harness.vm.host.cache import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNEL: Any = SimpleNamespace(
    digest="2b0e", image=Path("/none/vmlinux"), boot_modules=(), boot_args=(), slowness=1.0
)
OTHER: Any = SimpleNamespace(**{**vars(KERNEL), "digest": "77ac"})


@contextlib.contextmanager
def run_in(folder: Path, monkeypatch: pytest.MonkeyPatch, outcome: KlpError) -> Iterator[Session]:
    """One process of the run whose folder that is; each boot of a template ends in the outcome."""

    def fail(*_: object, **__: object) -> object:
        raise outcome

    monkeypatch.setattr(session_module, "template", fail)
    monkeypatch.setattr(RunInitrd, "prepare", lambda self: (None, Path("/none/initrd")))
    settings = GuestSettings(accel=Accel.TCG, time_scale=1.0)
    with Session(folder, settings, Store(folder / "cache")) as session:
        yield session


def test_all_processes_know_what_did_not_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that failed twice is not booted again by any process of the run."""
    logs = tmp_path / "logs"
    outcome = GuestPanic("the guest panicked: no init", artefacts=logs)
    for _ in range(MOST_BOOTS):
        with run_in(tmp_path, monkeypatch, outcome) as session, pytest.raises(GuestPanic):
            session.prepare(KERNEL)
    with run_in(tmp_path, monkeypatch, outcome) as session:
        with pytest.raises(BootFailed, match=r"was not booted again: .*no init") as raised:
            session.prepare(KERNEL)
        assert raised.value.artefacts == logs
        # Another kernel is another matter.
        with pytest.raises(GuestPanic):
            session.prepare(OTHER)


def test_what_is_not_the_kernels_fault_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures of QEMU or the host never keep a kernel from being booted."""
    with run_in(tmp_path, monkeypatch, QemuFailed("QEMU did not start")) as session:
        for _ in range(MOST_BOOTS + 1):
            with pytest.raises(QemuFailed):
                session.prepare(KERNEL)
