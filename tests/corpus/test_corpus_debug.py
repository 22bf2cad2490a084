# SPDX-License-Identifier: GPL-2.0-only
"""What only a kernel that checks itself can tell of a livepatch; no part of the sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.corpus.cases import MODULES, Entry, Scope
from tests.corpus.judging import ask_for, judge

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.pytest_plugin.fixtures import BuildModule, KernelTemplate


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One for each entry."""
    ask_for(metafunc, debug=True)


@pytest.mark.kernel_config("debug")
def test_a_debug_kernel_tells(
    name: str,
    entry: Entry,
    scope: Scope,
    template: KernelTemplate,
    build_module: BuildModule,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    """What only a kernel with lockdep and KASAN sees is seen there."""
    modules = {**sample_modules, **build_module(MODULES)}
    judge(name, entry, scope, template=template, modules=modules, scratch=tmp_path)
