# SPDX-License-Identifier: GPL-2.0-only
"""verify of good livepatches of few and of many functions: slow is not stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.tools.verify import CheckOutcome, VerifyRequest, verify_patch
from tests.guest.many_functions import PATCH, TARGET, write_sources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.pytest_plugin.fixtures import BuildModule
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

FEW = (10,)
ALL = (1, 10, 100, 400, 1000)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for each number of functions; the large ones only when they are asked for."""
    if "functions" in metafunc.fixturenames:
        every = metafunc.config.getoption("--every-size", default=False)
        metafunc.parametrize("functions", ALL if every else FEW)


@pytest.mark.slow(15)
def test_a_good_patch_of_many_functions(
    functions: int,
    kernel: Kernel,
    klp_session: Session,
    build_module: BuildModule,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    """It passes, however long the kernel takes to set and to remove its hooks."""
    built = build_module(write_sources(tmp_path / "many", functions))
    request = VerifyRequest(
        module=built[PATCH],
        targets=(built[TARGET],),
        scenes=() if functions > max(FEW) else ("idle", "reverse"),
    )
    verdict = verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)
    found = [f"{check.id} [{check.code}]: {check.detail}" for check in verdict.failed]
    assert not found
    # Tasks sleep in none of its functions, so that no transition of it is slow.
    assert verdict.check("disable").outcome is CheckOutcome.PASSED
    assert verdict.check("no-splat").outcome is CheckOutcome.PASSED
