# SPDX-License-Identifier: GPL-2.0-only
"""Kernel mutants on real kernels: one that is caught, one that does not boot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline
from harness.mutation.campaign import run_mutants, without_false_alarms
from harness.mutation.catalogue import read_mutant
from harness.mutation.trial import Conditions
from harness.report.results import CheckOutcome
from harness.resources import Resource, resource_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.kernel.kernel import Kernel
    from harness.report.mutants import MutantResult

    Run = Callable[[Path], MutantResult]

_RUN_S = 1800.0
_TEST = "loading/test_refused.py::test_enabled_patch_is_not_removed"
_PANICS = """\
--- a/init/main.c
+++ b/init/main.c
@@ -1485,4 +1485,5 @@
 \twait_for_completion(&kthreadd_done);
\x20
+\tpanic("a kernel that does not boot");
 \tkernel_init_freeable();
 \t/* need to finish all async __init code before freeing the memory */
"""


@pytest.fixture
def run(kernel: Kernel, tmp_path: Path, pytestconfig: pytest.Config) -> Run:
    """Judge a mutant by one quick test, which runs on the clean kernel as well."""
    conditions = Conditions(
        kernel=("--kernel", kernel.spec),
        suite=resource_dir(Resource.BEHAVIOUR_TESTS),
        carriers={"LD-05": (_TEST,)},
        accel=pytestconfig.getoption("accel"),
        guests=1,
    )

    def judged(path: Path) -> MutantResult:
        with_what: dict[str, Any] = {
            "deadline": Deadline.after(_RUN_S),
            "environment": {**os.environ, "KLP_HARNESS_DIE_WITH_PARENT": "1"},
        }
        found = list(run_mutants([read_mutant(path)], conditions, tmp_path, **with_what))
        [result] = without_false_alarms(found, conditions, tmp_path, **with_what)
        return result

    return judged


def test_a_mutant_of_the_catalogue(run: Run) -> None:
    """A module that is never put is noticed by the test of LD-05, which holds on a clean kernel."""
    result = run(resource_dir(Resource.KERNEL_MUTANTS) / "modref-leak-3ec24776.patch")
    assert result.outcome is CheckOutcome.CAUGHT, result.detail
    assert [catch.test for catch in result.caught_by] == [_TEST]
    assert not result.is_news


def test_a_kernel_that_does_not_boot(run: Run, tmp_path: Path) -> None:
    """It is neither caught nor a survivor, and the panic is told."""
    patch = tmp_path / "panics.patch"
    patch.write_text(_PANICS)
    result = run(patch)
    assert result.outcome is CheckOutcome.DOES_NOT_BOOT, result.detail
    assert "a kernel that does not boot" in (result.detail or "")
