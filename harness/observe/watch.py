# SPDX-License-Identifier: GPL-2.0-only
"""Loads one livepatch in a guest, records every task meanwhile, and makes a result of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from harness.deadline import Deadline
from harness.errors import KernelVerdict
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from harness.guest.machine import Machine
    from harness.livepatch.patch import Patch
    from harness.observe.plan import Plan
    from harness.report.results import RunResult
