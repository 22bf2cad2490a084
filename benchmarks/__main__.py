# SPDX-License-Identifier: GPL-2.0-only
"""``python -m benchmarks bench`` and ``grade``, for `make bench` and `make grade`."""

from __future__ import annotations

from harness.cli import run_application

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _application() -> Callable[..., Any]:
    from benchmarks.app import app

    return app


if __name__ == "__main__":
    run_application(_application, "benchmarks")
