# SPDX-License-Identifier: GPL-2.0-only
"""The probe guest in a real QEMU. TCG stands for an accelerator that works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.vm.host import probe_guest
from harness.vm.host.accel import Accel, run_probe

if TYPE_CHECKING:
    import pytest


def test_probe_guest_runs_to_its_end_under_tcg() -> None:
    """TCG runs a guest everywhere: so a probe guest that fails is not the probe's own fault."""
    verdict = run_probe(Accel.TCG, Deadline.after(30))
    assert verdict.usable, verdict.reason


def test_probe_guest_that_breaks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its handler the exception resets the guest, and the verdict says how far it got."""
    monkeypatch.setattr(probe_guest, "_INVALID_OPCODE_VECTOR", 5)
    verdict = run_probe(Accel.TCG, Deadline.after(30))
    assert not verdict.usable
    assert "after it reached long mode" in verdict.reason


def test_probe_guest_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that never leaves its interrupt handler costs the deadline, and no more."""
    monkeypatch.setattr(probe_guest, "ON_TIMER", (("eb fe", "jmp 0"),))
    verdict = run_probe(Accel.TCG, Deadline.after(1.0))
    assert not verdict.usable
    assert verdict.reason.startswith("a probe guest hung after it reached an exception (killed")
