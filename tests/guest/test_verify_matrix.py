# SPDX-License-Identifier: GPL-2.0-only
"""verify of two patches on two kernels, interrupted and taken up again, as a user types it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = """
[[kernel]]
spec = "6.1"
[[kernel]]
spec = "6.12"
[defaults]
scene = "idle"
[[patch]]
module = "klp_test_cmdline_a"
check = "check.sh"
[[patch]]
module = "klp_test_gate"
"""
CHECK = """#!/bin/sh
case "$1" in
during) grep -q "WORD" /proc/cmdline ;;
*) true ;;
esac
"""


@pytest.mark.slow(90)
def test_two_patches_on_two_kernels(tmp_path: Path) -> None:
    """One cell fails by its check; once that is mended, --rerun-failed runs that row alone."""
    (tmp_path / "klp-verify.toml").write_text(MANIFEST)
    (tmp_path / "check.sh").write_text(CHECK.replace("WORD", "not what it prints"))
    code, report = verify(tmp_path)
    assert code == 1
    assert outcomes(report) == {
        "klp_test_cmdline_a@6.1": "failed",
        "klp_test_gate@6.1": "passed",
        "klp_test_cmdline_a@6.12": "failed",
        "klp_test_gate@6.12": "passed",
    }
    assert {each["codes"][0] for each in report["results"] if each["codes"]} == {"check-failed"}
    (tmp_path / "check.sh").write_text(CHECK.replace("WORD", "live patched"))
    code, report = verify(tmp_path, "--rerun-failed")
    assert code == 0
    assert set(outcomes(report).values()) == {"passed"}
    assert sorted(report["kept"]) == ["klp_test_gate@6.1", "klp_test_gate@6.12"]
    page = (tmp_path / "results/index.html").read_text()
    assert page.count(">passed</a>") == 4
    assert "idle" in (tmp_path / "results/cells/klp_test_gate_on_6.12.html").read_text()


def verify(folder: Path, *options: str) -> tuple[int, Any]:
    argv = [sys.executable, "-m", "harness.cli", "verify", "-f", str(folder / "klp-verify.toml")]
    argv += ["--results", str(folder / "results"), "--json", str(folder / "m.json"), *options]
    # The second kernel may have to be built.
    finished = run(argv, deadline=Deadline.after(3600), check=False)
    return finished.returncode, json.loads((folder / "m.json").read_text())


def outcomes(report: Any) -> dict[str, str]:
    return {each["id"]: each["outcome"] for each in report["results"]}
