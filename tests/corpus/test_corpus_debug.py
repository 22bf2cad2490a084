# SPDX-License-Identifier: GPL-2.0-only
"""Livepatches whose fault only a debug kernel shows; none is in the sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.corpus.cases import MODULES, Entry, Scope
from tests.corpus.judging import ask_for, judge

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.pytest_plugin.fixtures import BuildModule
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each entry."""
    ask_for(metafunc, debug=True)


@pytest.mark.kernel_config("debug")
def test_what_only_a_debug_kernel_shows(
    name: str,
    entry: Entry,
    scope: Scope,
    kernel: Kernel,
    klp_session: Session,
    build_module: BuildModule,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    """A fault that only lockdep or KASAN reports fails the patch on a kernel that has them."""
    modules = {**sample_modules, **build_module(MODULES)}
    judge(
        name,
        entry,
        scope,
        kernel=kernel,
        session=klp_session,
        modules=modules,
        scratch=tmp_path,
    )
