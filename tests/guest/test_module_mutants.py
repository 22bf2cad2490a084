# SPDX-License-Identifier: GPL-2.0-only
"""Module mutants in guests: the clean module passes, and verify notices its mutant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.module_mutation.judge import Place, judge, make_mutants
from benchmarks.module_mutation.operators import choose
from benchmarks.module_mutation.subjects import subjects_of
from harness.report.base import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel


@pytest.mark.slow(17)
def test_verify_notices_a_mutant_that_loads(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """It loads and redirects as the clean module does; only what the function does tells."""
    (subject,) = subjects_of(["klp_test_cmdline_a"], sample_modules, tmp_path)
    batch = make_mutants(
        subject,
        choose(["nop-set"]),
        kernel=kernel,
        samples=sample_modules,
        folder=tmp_path,
    )
    place = Place(kernel=kernel, session=klp_session, samples=sample_modules, guests=1)
    (result,) = judge([batch], place)
    assert result.outcome is CheckOutcome.CAUGHT, result
    assert [notice.check for notice in result.caught_by] == ["check-during"]
    assert result.by_script
