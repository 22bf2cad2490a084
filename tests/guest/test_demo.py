# SPDX-License-Identifier: GPL-2.0-only
"""The first command that a person runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.kernel.kernel import Kernel


@pytest.mark.slow(15)
def test_the_demo(kernel: Kernel, tmp_path: Path) -> None:
    """It shows which task blocks the transition, and when each one switches; it ends with 0."""
    page = tmp_path / "demo.html"
    argv = [sys.executable, "-m", "harness.cli", "demo", f"--kernel={kernel.spec}"]
    done = run([*argv, f"--html={page}"], deadline=Deadline.after(300), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "The transition is blocked by:" in said
    assert "klp_gate_wait" in said
    assert "klp_test_gate: passed: loaded, disabled and unloaded" in said
    assert "klp_test_gate" in page.read_text()
