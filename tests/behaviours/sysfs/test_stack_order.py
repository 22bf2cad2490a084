# SPDX-License-Identifier: GPL-2.0-only
"""The attribute stack_order of a livepatch that is in the stack no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.stack_order import stack_order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel


@pytest.mark.behaviour("SY-08")
def test_stack_order_of_a_disabled_patch(
    guest: Machine, kernel: Kernel, sample_modules: Mapping[str, Path]
) -> None:
    """While its directory is held, it does not have the place of another patch."""
    try:
        stack_order.check_kernel(kernel)
        # Without symbols on the host, the guest alone can say it.
        run_steps(stack_order, guest, modules=sample_modules)
    except UsageError as error:
        pytest.skip(error.message)
