# SPDX-License-Identifier: GPL-2.0-only
"""Shadow variables (kernel/livepatch/shadow.c, Documentation/livepatch/shadow-vars.rst)."""

from __future__ import annotations

import re

import pytest

from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

STEPS = 25


@pytest.mark.behaviour("SV-01")
@pytest.mark.expect_splat("Duplicate shadow variable")
def test_every_operation(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """get, alloc, get_or_alloc, free and free_all work with several ids and several objects.

    The module checks each step itself. One of them allocates a variable twice, of which the kernel
    warns by design (klp_shadow_alloc()).
    """
    livepatch.load_target("klp_test_shadow")
    failed = [record.text for record in kernel_log.matching(r"shadow \S+ FAILED")]
    assert failed == []
    (done,) = kernel_log.matching("shadow done ")
    match = re.search(r"steps=(\d+) failed=(\d+)", done.text)
    assert match is not None
    assert (int(match[1]), int(match[2])) == (STEPS, 0)
    assert len(kernel_log.matching(r"shadow \S+ ok")) == STEPS
