# SPDX-License-Identifier: GPL-2.0-only
"""The steps of a race as a test of its rule, where the kernel can have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.tools.race.reproducer import run_steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.tools.race.reproducer import Reproducer
    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel


def run_where_possible(
    race: Reproducer, kernel: Kernel, guest: Machine, modules: Mapping[str, Path]
) -> None:
    """Run the steps of a race; skip the test on a kernel that cannot have it."""
    try:
        race.check_kernel(kernel)
    except UsageError as error:
        pytest.skip(error.message)
    run_steps(race, guest, modules=modules)
