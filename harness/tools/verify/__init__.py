# SPDX-License-Identifier: GPL-2.0-only
"""Is a livepatch module safe to load, to run under load, to upgrade, and to unload?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.base import CheckOutcome
from harness.tools.verify.request import LoadProfile, VerifyRequest
from harness.tools.verify.verdict import Check, Verdict
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from harness.tools.verify.api import guests_at_a_time, verify_patch

__all__ = [
    "Check",
    "CheckOutcome",
    "Code",
    "LoadProfile",
    "Verdict",
    "VerifyRequest",
    "guests_at_a_time",
    "verify_patch",
]


def __getattr__(name: str) -> object:
    # Commands that only have the options of verify do not wait for its scenes, and for pytest.
    if name in ("guests_at_a_time", "verify_patch"):
        from harness.tools.verify import api

        return getattr(api, name)
    raise AttributeError(name)
