# SPDX-License-Identifier: GPL-2.0-only
"""The story of one livepatch in the terminal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from harness.report.base import CheckOutcome, ErrorFacts
from harness.report.run_results import RunResult
from harness.report.terminal import Terminal
from harness.tools.run.terminal import print_result

HISTORY: dict[str, Any] = {
    "tid": 87,
    "comm": "klp-gate",
    "kthread": False,
    "changes": [{"at_s": 0.0, "state": -1}, {"at_s": 1.0, "state": 0}, {"at_s": 2.0, "state": 1}],
}
PHASE: dict[str, Any] = {
    "direction": "patching",
    "start_s": 1.0,
    "end_s": 2.5,
    "switches": [
        {"at_s": 2.0, "tid": 87, "comm": "klp-gate", "kthread": False, "before": 0, "after": 1}
    ],
}
CALLBACK = {
    "at_s": 0.9,
    "patch": "klp_test",
    "phase": "pre_patch",
    "object": "klp_target_mod",
    "state": "LIVE",
}


def told(**fields: Any) -> str:
    base = {
        "id": "klp_test",
        "outcome": CheckOutcome.PASSED,
        "seconds": 3.21,
        "module": str(Path("klp_test.ko")),
        "functions": ("vmlinux:cmdline_proc_show", "klp_target_mod:f", "klp_target_mod:g"),
    }
    out = io.StringIO()
    print_result(
        Terminal(stdout=out, stderr=io.StringIO()), RunResult.model_validate({**base, **fields})
    )
    return out.getvalue()


def test_a_good_patch_is_told_whole() -> None:
    """Functions by object, who switched last and when, callbacks, the kernel's messages."""
    text = told(
        phases=[PHASE],
        tasks=[HISTORY],
        marks=[{"at_s": 1.0, "what": "patching starts"}, {"at_s": 2.5, "what": "complete"}],
        callbacks=[CALLBACK],
        targets=("klp_target_mod",),
        log=("[ 1.0] livepatch: enabling",),
    )
    assert "patches cmdline_proc_show() of vmlinux; f(), g() of klp_target_mod" in text
    assert "loaded before it: klp_target_mod" in text
    assert "   87 klp-gate " in text
    assert "patching (0 -> 1) took 1.50 s; 1 task switched, last klp-gate (87) after 1.00 s" in text
    assert "0.900 s  pre_patch    klp_target_mod (LIVE)" in text
    assert "  [ 1.0] livepatch: enabling" in text
    assert text.endswith("klp_test: passed: loaded, disabled and unloaded (3.2 s)\n")
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_bad_patch_says_why_and_where_the_logs_lie() -> None:
    """The kernel's words, without what a terminal would obey, and the folder."""
    error = ErrorFacts(
        kind="KernelSplat",
        fault="kernel",
        message="the kernel complained: WARNING",
        hint="read it",
        details=("WARNING: \x1b[2J at x.c:1",),
        logs="/runs/1",
    )
    text = told(outcome=CheckOutcome.FAILED, error=error, phases=[{**PHASE, "end_s": None}])
    assert "\x1b" not in text
    assert "[2J at x.c:1" in text
    assert "hint: read it" in text
    assert "logs: /runs/1" in text
    assert "began at 1.00 s and did not end" in text
    assert "klp_test: failed: the kernel complained: WARNING" in text


def test_target_without_a_file_is_named() -> None:
    """An object that was not loaded was not patched: the reader must know."""
    assert "not loaded, so not patched: ext4" in told(absent=("ext4",))


def test_module_that_is_no_livepatch_is_no_success() -> None:
    """What loaded and was no livepatch is not told as a transition."""
    text = told(outcome=CheckOutcome.WARNED, functions=())
    assert "it is no livepatch, and there was no transition" in text
    assert "passed" not in text
