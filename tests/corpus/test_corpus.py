# SPDX-License-Identifier: GPL-2.0-only
"""verify separates safe livepatches from unsafe ones: the corpus, module by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.corpus.cases import MODULES, Entry, Scope
from tests.corpus.judging import ask_for, judge

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

    from harness.pytest_plugin.fixtures import BuildModule
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each entry."""
    ask_for(metafunc, debug=False)


def test_safe_patches_pass_and_others_fail(
    name: str,
    entry: Entry,
    scope: Scope,
    kernel: Kernel,
    klp_session: Session,
    build_module: BuildModule,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    """A safe livepatch has no failed check; any other has one, for the reason that is known."""
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
