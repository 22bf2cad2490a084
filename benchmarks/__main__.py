# SPDX-License-Identifier: GPL-2.0-only
"""``python -m benchmarks bench``, ``grade`` and ``soak``, for make targets of the same names."""

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
