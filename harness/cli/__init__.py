# SPDX-License-Identifier: GPL-2.0-only
"""The command klp-harness: arguments in, calls, exit codes out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Run the command line of klp-harness; see `run_application`."""
    run_application(_application, "klp-harness")


def run_application(load: Callable[[], Callable[..., Any]], name: str) -> None:
    """Run a typer application and end with one of harness.errors.ExitCode.

    It is loaded, as all that is heavy, after the signals are dealt with, so that Ctrl-C has no
    traceback at any moment.
    """
    try:
        # A guest's console may hold anything; a terminal that cannot show it gets escapes.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        from harness.cli.exits import take_signals
        from harness.vm.host.process import obey_parent

        take_signals()
        obey_parent()
        load()(prog_name=name)
    except KeyboardInterrupt as interrupt:
        from harness.cli.exits import interrupted

        sys.exit(interrupted(interrupt))


def _application() -> Callable[..., Any]:
    from harness.cli.app import app

    return app
