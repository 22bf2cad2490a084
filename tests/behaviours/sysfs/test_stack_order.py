# SPDX-License-Identifier: GPL-2.0-only
"""The attribute stack_order of a livepatch that is in the stack no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.race.reproducers.stack_order import stack_order
from tests.behaviours.steps import run_where_possible

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel
    from tests.behaviours.conftest import Guestview


@pytest.mark.behaviour("SY-08")
def test_stack_order_of_a_disabled_patch(
    guest: Machine, kernel: Kernel, view: Guestview, sample_modules: Mapping[str, Path]
) -> None:
    """While its directory is held, it does not have the place of another patch."""
    # Without symbols on the host, the guest alone can say it.
    if not view.has_function("stack_order_show"):
        pytest.skip("this kernel's livepatches have no attribute stack_order")
    run_where_possible(stack_order, kernel, guest, sample_modules)
