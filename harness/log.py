# SPDX-License-Identifier: GPL-2.0-only
"""Logging: one logger for the whole harness, silent as a library.

The command line sends it to its terminal (harness.report.terminal.log_to).
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("klp_harness")
LOGGER.addHandler(logging.NullHandler())


def be_silent() -> None:
    """Undo what a command has set, in a process that is a copy of the command's."""
    for handler in LOGGER.handlers[:]:
        LOGGER.removeHandler(handler)
    LOGGER.addHandler(logging.NullHandler())
    LOGGER.setLevel(logging.NOTSET)
    LOGGER.propagate = True
