# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that holds all mechanical mutants of the livepatch core, and the workers that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cli.options import KernelOptions
from harness.deadline import Deadline
from harness.report.base import CheckOutcome
from harness.tools.mutants.sweep.choose import choose
from harness.tools.mutants.sweep.kernel_of_mutants import CORE, obtain_mutants
from harness.tools.mutants.sweep.messages import Job
from harness.tools.mutants.sweep.schema import RECORD, read_seen
from harness.tools.mutants.sweep.sweeping import open_workers, words_for_tests
from harness.vm.guest import runs
from harness.vm.kernel.build import obtain_kernel
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from harness.vm.kernel.kernel import Kernel

_BUILD_S = 3600.0
_TEST_S = 600.0
SLEEPER = "transition/test_sleeper.py::test_sleeper_holds_the_transition"
LOADED = "loading/test_refused.py::test_enabled_patch_is_not_removed"
TESTS = (LOADED, SLEEPER)


@pytest.mark.slow(60)
def test_kernel_of_mutants(kernel: Kernel, pytestconfig: pytest.Config) -> None:
    """With no mutant on, it passes what the clean kernel passes; with one on, a test notices."""
    accel = pytestconfig.getoption("accel")
    mutants = obtain_mutants(kernel, CORE, store=runs.store(), deadline=Deadline.after(_BUILD_S))
    assert len(mutants.mutants) > 900 or not kernel.version.startswith("6.1.")
    assert mutants.unread == {}
    options = KernelOptions(spec=kernel.spec, patches=(mutants.patch,))
    holding = obtain_kernel(
        options.request(),
        store=runs.store(),
        deadline=Deadline.after(_BUILD_S),
        progress=LineProgress(lambda _: None),
    )
    number = next(
        each.number
        for each in choose(mutants.mutants, files=["transition.c"])
        if each.function == "klp_check_stack_func"
        and "address >= func_addr" in each.new
        and each.new.startswith("!")
    )
    words = words_for_tests(options, accel)
    with open_workers(holding, runs.accelerator(accel), words, guests=1) as workers:
        ended = {
            switch: list(workers.run(Job(number=switch, tests=TESTS), limit_s=lambda _: _TEST_S))
            for switch in (0, RECORD, number, 0)
        }
    for switch in (0, RECORD):
        assert [ran.outcome for ran in ended[switch]] == [CheckOutcome.PASSED] * 2
    (seen,) = ended[RECORD][1].seen
    record = read_seen(seen)
    assert record[number] is True
    assert 100 < len(record) < len(mutants.mutants)
    assert ended[0][1].seen == ()
    # A load with nobody inside reaches the check as well; the sleeper's test is about it.
    assert [ran.outcome for ran in ended[number]][-1] is CheckOutcome.FAILED
    assert len(ended[number]) <= 2
