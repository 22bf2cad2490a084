# SPDX-License-Identifier: GPL-2.0-only
"""Logging: one logger for the whole harness, silent as a library, readable as a command."""

from __future__ import annotations

import logging
import os
import sys

LOGGER = logging.getLogger("klp_harness")
LOGGER.addHandler(logging.NullHandler())


def to_stderr(*, verbose: bool = False) -> None:
    """Send the harness's log to standard error: what happens, or with ``verbose`` also how."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("klp-harness: %(message)s"))
    for old in LOGGER.handlers[:]:
        LOGGER.removeHandler(old)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOGGER.propagate = False


def in_ci() -> bool:
    """Return whether a CI system runs us, by the CI variable that all of them set."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
