# SPDX-License-Identifier: GPL-2.0-only
"""How often a template is booted, without a guest."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline
from harness.vm.guest import snapshot
from harness.vm.guest.keys import RunKeys
from harness.vm.guest.qemu import GuestShape
from harness.vm.host.accel import Accel

if TYPE_CHECKING:
    from collections.abc import Sequence

DISABLED = "[    0.1] APIC timer disabled due to verification failure\n"
FINE = "[    0.1] smpboot: CPU0\n"


class Boots:
    """Stands for all QEMUs of a test: what each of them prints, and what became of it."""

    def __init__(self, consoles: Sequence[str]) -> None:
        self.consoles = list(consoles)
        self.log: list[str] = []

    def hypervisor(self, _shape: object, _folder: object, stack: contextlib.ExitStack) -> Any:
        text = self.consoles.pop(0)
        self.log.append("start")
        stack.callback(self.log.append, "end")
        return SimpleNamespace(
            start=lambda **_: None,
            wait_for_boot=lambda _: None,
            console=SimpleNamespace(text=lambda: text),
        )

    @contextlib.contextmanager
    def machine(self, _hypervisor: object, _keys: object, **_: object) -> Any:
        yield SimpleNamespace(
            scaled=Deadline.after,
            connect=lambda: self.log.append("connect"),
            tasks=lambda: None,
            klog=lambda: None,
            run=lambda _: None,
        )


@pytest.mark.parametrize(
    ("consoles", "log"),
    [
        ([FINE], ["start", "connect", "end"]),
        ([DISABLED, FINE], ["start", "end", "start", "connect", "end"]),
        ([DISABLED] * 8, [*["start", "end"] * 7, "start", "connect", "end"]),
    ],
)
def test_template_without_a_timer_is_booted_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    consoles: list[str],
    log: list[str],
) -> None:
    """It is booted again, seven times at most, and the last is no silence; one QEMU at a time."""
    boots = Boots(consoles)
    monkeypatch.setattr(snapshot, "Hypervisor", boots.hypervisor)
    monkeypatch.setattr(snapshot, "Machine", boots.machine)
    for step in ("_await_idle", "_save"):
        monkeypatch.setattr(snapshot, step, lambda *_, **__: None)
    shape = GuestShape(image=Path("bzImage"), initrd=Path("initrd"), accel=Accel.TCG)
    keys = RunKeys(folder=tmp_path, host_public="", client_public="")
    with snapshot.template(
        shape, keys, tmp_path, time_scale=1.0, deadline=Deadline.after(1.0)
    ) as saved:
        assert saved.state_path == tmp_path / "device-state"
    assert boots.log == log
    assert ("timers of 4 ms" in caplog.text) is (consoles[-1] is DISABLED)
