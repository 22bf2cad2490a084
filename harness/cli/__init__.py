# SPDX-License-Identifier: GPL-2.0-only
"""The command klp-harness: arguments in, calls, exit codes out.

Until the signals are taken this imports nothing that takes time.
"""

from __future__ import annotations

import gc
import sys

from harness.cli import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_USAGE, _HARNESS = 2, 3
# `git bisect run` takes any code below 128 but 0 and 125 for a verdict (git-bisect(1)).
_GIVE_UP = 255


def main() -> NoReturn:
    """Run the command line of klp-harness; see `run_application`."""
    run_application(_application, "klp-harness")


def run_application(load: Callable[[], Callable[..., Any]], name: str) -> NoReturn:
    """Run a typer application and end with one of harness.errors.ExitCode.

    It is loaded, as all that is heavy, after the signals are dealt with, so that Ctrl-C has no
    traceback at any moment.
    """
    signals.end_at_once()
    # What is imported stays: looks for garbage in it are a tenth of the time until a command runs.
    gc.disable()
    from harness.cli import streams

    streams.mend()
    try:
        from harness.cli import bytecode

        bytecode.keep()
        from harness.cli import detach
        from harness.cli.exits import run_to_exit
    except ImportError as error:
        sys.stderr.write(f"error: {name} is not installed as a whole: {error}\n")
        sys.exit(_HARNESS)
    code = run_to_exit(load, name)
    signals.disregard()
    code = streams.settle(code)
    code = _GIVE_UP if code in (_USAGE, _HARNESS) and "--bisect" in sys.argv else code
    detach.end(code)
    sys.exit(code)


def _application() -> Callable[..., Any]:
    from harness.cli.app import app

    return app
