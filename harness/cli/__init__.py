# SPDX-License-Identifier: GPL-2.0-only
"""The command klp-harness: arguments in, calls, exit codes out; one file for each command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and end with one of harness.errors.ExitCode.

    Nothing heavy is imported before the signals are dealt with, so that Ctrl-C has no traceback
    at any moment.
    """
    try:
        # A guest's console may hold anything; a terminal that cannot show it gets escapes.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        from harness.cli.guard import take_signals

        take_signals()
        if os.environ.get("KLP_HARNESS_DIE_WITH_PARENT"):
            from harness.host.process import die_with_parent

            die_with_parent(os.getppid())
        from harness.cli.app import app

        app(prog_name="klp-harness")
    except KeyboardInterrupt as interrupt:
        from harness.cli.guard import interrupted

        sys.exit(interrupted(interrupt))
