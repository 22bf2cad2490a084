# SPDX-License-Identifier: GPL-2.0-only
"""Kernel mutants on real kernels: one of the catalogue that is caught, one that does not boot."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.behaviours.mutants import (
    fitted,
    load_mutants,
    read_mutant,
    series_of,
    written_for,
)
from harness.behaviours.rule_tests import find_rule_tests
from harness.cli.child_commands import ChildCommands
from harness.deadline import Deadline
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir
from harness.tools.mutants.campaign import run_mutants, without_false_alarms
from harness.tools.mutants.conditions import Conditions
from harness.tools.mutants.sample import sample, seed_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from harness.behaviours.mutants import Mutant
    from harness.tools.mutants.results import MutantResult
    from harness.vm.kernel.kernel import Kernel

    Run = Callable[[Mutant], MutantResult]

_RUN_S = 1800.0
# Its test needs one guest and fails at once, where others wait for what never comes.
_QUICK = "going-no-pre-unpatch"
# Lines that have stood in kernel_init() from 5.10 on; 6.1 waits for kthreadd before them.
_PANICS = """\
--- a/init/main.c
+++ b/init/main.c
@@ -1486,3 +1486,4 @@
\x20
+\tpanic("a kernel that does not boot");
 \tkernel_init_freeable();
 \t/* need to finish all async __init code before freeing the memory */
"""


@pytest.fixture
def run(kernel: Kernel, tmp_path: Path, pytestconfig: pytest.Config) -> Run:
    """Judge a mutant by the tests of its rules; those that fail run on the clean kernel as well."""
    suite = resource_dir(Resource.BEHAVIOUR_TESTS)
    conditions = Conditions(
        kernel=("--kernel", kernel.spec),
        suite=suite,
        carriers=find_rule_tests(suite),
        accel=pytestconfig.getoption("accel"),
        guests=1,
        rules_only=True,
    )

    def judged(mutant: Mutant) -> MutantResult:
        with ChildCommands(tmp_path, runs=1, deadline=Deadline.after(_RUN_S)) as commands:
            found = list(run_mutants([mutant], conditions, commands.run))

            def again(_: object, without: frozenset[str]) -> Iterator[MutantResult]:
                changed = replace(conditions, without=without)
                return run_mutants([mutant], changed, commands.run)

            [result] = without_false_alarms(found, conditions, commands.run, again=again)
        return result

    return judged


@pytest.mark.slow(35)
def test_a_mutant_of_the_catalogue(run: Run, kernel: Kernel) -> None:
    """A test of the rules that it breaks notices it, and passes on the clean kernel.

    Which mutant it is, the environment says: CI counts on, so that each comes in turn. Without the
    variable it is always the same, which is built once.
    """
    series = series_of(kernel.version)
    known = fitted(written_for(load_mutants(resource_dir(Resource.KERNEL_MUTANTS)), series), series)
    visible = [mutant for mutant in known if mutant.always and mutant.equivalent is None]
    if not visible:
        pytest.skip(f"no mutant is written for {series}")
    mutant = _chosen(visible)
    result = run(mutant)
    what = f"{mutant.name}: {result.detail}"
    assert result.outcome is CheckOutcome.CAUGHT, what
    assert any(catch.expected for catch in result.caught_by), what


@pytest.mark.slow(9)
def test_a_kernel_that_does_not_boot(run: Run, tmp_path: Path) -> None:
    """A kernel that panics at boot is neither caught nor a survivor, and the panic is shown."""
    patch = tmp_path / "panics.patch"
    # It names a rule, so that one test alone has to find no guest.
    patch.write_text(f"Breaks: LD-05\n\n{_PANICS}")
    result = run(read_mutant(patch))
    assert result.outcome is CheckOutcome.DOES_NOT_BOOT, result.detail
    assert "a kernel that does not boot" in (result.detail or "")


def _chosen(mutants: Sequence[Mutant]) -> Mutant:
    seed = seed_from(os.environ)
    if seed is not None:
        [mutant] = sample(mutants, 1, seed)
        return mutant
    return next((mutant for mutant in mutants if mutant.name == _QUICK), mutants[0])
