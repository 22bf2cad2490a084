# SPDX-License-Identifier: GPL-2.0-only
"""What can be wrong with a module: one list, for its file as for what it does in a guest."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """What a check of a module found, for machines. ``ok`` is the code of a check that passed."""

    OK = "ok"
    NOT_RUN = "not-run"
    # -- what a tool refuses to judge
    OTHER_KERNEL = "other-kernel"
    NOT_A_LIVEPATCH = "not-a-livepatch"
    MISSING_DEPENDENCY = "missing-dependency"
    # -- read from the file, before a guest loads it
    LICENCE = "licence"
    UNRESOLVED_SYMBOL = "unresolved-symbol"
    NO_SUCH_FUNCTION = "no-such-function"
    AMBIGUOUS = "ambiguous"
    SYMPOS_OUT_OF_RANGE = "sympos-out-of-range"
    NOT_TRACEABLE = "not-traceable"
    INIT_FUNCTION = "init-function"
    LIST_END = "list-end"
    UNUSED_BODY = "unused-body"
    RELOCATION = "relocation"
    TARGET_MISSING = "target-missing"
    COLD_PART = "cold-part"
    UNWATCHED_TASK = "unwatched-task"
    FORCED_BELOW = "forced-below"
    ALWAYS_ON_STACK = "always-on-stack"
    UNSIGNED = "unsigned"
    NOT_CUMULATIVE = "not-cumulative"
    STATE_VERSION = "state-version"
    # -- what the kernel did
    LOAD_REFUSED = "load-refused"
    TARGET_REFUSED = "target-refused"
    UPGRADE_REFUSED = "upgrade-refused"
    DOWNGRADE_REFUSED = "downgrade-refused"
    UNLOAD_REFUSED = "unload-refused"
    WRITE_REFUSED = "write-refused"
    TRANSITION_TIMEOUT = "transition-timeout"
    SLOW_TRANSITION = "slow-transition"
    ON_STACK = "on-stack"
    NOT_REDIRECTED = "not-redirected"
    NOT_RESTORED = "not-restored"
    NOT_REPLACED = "not-replaced"
    REPLACED_LEAVES = "replaced-leaves"
    PINNED = "pinned"
    LEFT_BEHIND = "left-behind"
    LEAK = "leak"
    NOT_EXERCISED = "not-exercised"
    USED_AFTER_UNLOAD = "used-after-unload"
    INCONSISTENT = "inconsistent"
    # -- what the user's check found
    CHECK_FAILED = "check-failed"
    CHECK_HUNG = "check-hung"
    CHECK_LEFT = "check-left"
    # -- how a guest ended
    SPLAT = "splat"
    PANIC = "panic"
    HANG = "hang"
    STUCK = "stuck"
