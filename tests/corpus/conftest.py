# SPDX-License-Identifier: GPL-2.0-only
"""How much of the corpus is run: ``--corpus``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.corpus.cases import Scope

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option; pytest knows it when this folder is named on its command line."""
    parser.addoption(
        "--corpus",
        choices=[scope.value for scope in Scope],
        default=Scope.SAMPLE.value,
        help="how much of the corpus of patch modules to verify: a sample of it, each module in "
        "the scene that shows what it is, or all of it in all scenes",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests on a debug kernel: the sample has none."""
    scope = config.getoption("--corpus", default=Scope.SAMPLE.value)
    is_debug = collection_path.name == "test_corpus_debug.py"
    return True if is_debug and scope == Scope.SAMPLE.value else None
