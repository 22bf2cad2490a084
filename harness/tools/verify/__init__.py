# SPDX-License-Identifier: GPL-2.0-only
"""Is a livepatch module safe to load, to run under load, to upgrade, and to unload?"""

from harness.report.base import CheckOutcome
from harness.tools.verify.api import guests_at_a_time, verify_patch
from harness.tools.verify.request import LoadProfile, VerifyRequest
from harness.tools.verify.verdict import Check, Verdict
from harness.vm.kernel.codes import Code

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
