# SPDX-License-Identifier: GPL-2.0-only
"""Is a livepatch module safe to load, to run under load, to upgrade, to take back?"""

from harness.tools.verify.api import guests_at_a_time, verify_patch
from harness.tools.verify.case import check_together
from harness.tools.verify.request import LoadProfile, VerifyRequest
from harness.tools.verify.verdict import Check, CheckResult, Code, Verdict

__all__ = [
    "Check",
    "CheckResult",
    "Code",
    "LoadProfile",
    "Verdict",
    "VerifyRequest",
    "check_together",
    "guests_at_a_time",
    "verify_patch",
]
