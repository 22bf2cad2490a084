# SPDX-License-Identifier: GPL-2.0-only
"""What no task holds is complete at the first try, without the retry a second later."""

from __future__ import annotations

import pytest

from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

NAME = "klp_test_cmdline_a"


@pytest.mark.behaviour("TR-49")
@pytest.mark.smp(1)
def test_complete_when_the_load_returns(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """On one CPU, each task but the loader sleeps or waits for the CPU: all switch at once.

    So the transition is complete when the load returns, and when the write to ``enabled`` does.
    """
    patch = livepatch.load(NAME)
    assert kernel_log.matching(f"'{NAME}': patching complete"), "the load left it to a retry"
    patch.disable(wait=False)
    assert kernel_log.matching(f"'{NAME}': unpatching complete"), "the write left it to a retry"
