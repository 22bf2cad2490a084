# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's livepatch selftests in one guest, compared with the tests of the same rules."""

from __future__ import annotations

import sys
import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Bound, Budget, ratio, side
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.resources import Resource, resource_dir
from harness.tools.selftests.image import guest_files
from harness.tools.selftests.output import Verdict
from harness.tools.selftests.script_run import run_script
from harness.tools.selftests.tree import find_suite, source_tree
from harness.vm.guest.session import Fresh, Session
from harness.vm.host.cache import Store
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.figures import Figure
    from benchmarks.place import Bench
    from harness.tools.selftests.tree import Suite
    from harness.vm.kernel.progress import Progress

UPSTREAM_RATIO = 0.18
_ORDER = "callbacks/test_order.py"
_STATE = "shadow/test_system_state.py"
EQUIVALENTS: Mapping[str, tuple[str, ...]] = {
    "test-livepatch.sh/basic function patching": (
        "stacking/test_stack.py::test_newest_body_runs[top-first]",
    ),
    "test-livepatch.sh/multiple livepatches": (
        "stacking/test_stack.py::test_newest_body_runs[top-first]",
    ),
    "test-livepatch.sh/atomic replace livepatch": (
        "replace/test_atomic_replace.py::test_replaced_patch_vanishes",
    ),
    "test-callbacks.sh/target module before livepatch": (
        f"{_ORDER}::test_order_for_vmlinux_and_a_loaded_target",
    ),
    "test-callbacks.sh/module_coming notifier": (f"{_ORDER}::test_target_loaded_after_the_patch",),
    "test-callbacks.sh/module_going notifier": (
        f"{_ORDER}::test_target_unloaded_before_the_patch",
    ),
    "test-callbacks.sh/module_coming and module_going notifiers": (
        "targets/test_coming.py::test_reloaded_target_is_patched_again",
    ),
    "test-callbacks.sh/target module not present": (f"{_ORDER}::test_target_never_loaded",),
    "test-callbacks.sh/pre-patch callback -ENODEV": (
        "callbacks/test_refusal.py::test_refusal_on_load",
    ),
    "test-callbacks.sh/module_coming + pre-patch callback -ENODEV": (
        "callbacks/test_refusal.py::test_refusal_of_a_coming_target",
    ),
    "test-callbacks.sh/multiple target modules": (
        f"{_ORDER}::test_order_for_vmlinux_and_a_loaded_target",
        f"{_ORDER}::test_target_loaded_after_the_patch",
    ),
    "test-callbacks.sh/busy target module": (
        "callbacks/test_busy.py::test_busy_target_and_reverse",
        "callbacks/test_coming_in_transition.py::test_target_that_comes_during_a_transition",
    ),
    "test-callbacks.sh/multiple livepatches": ("callbacks/test_blocked.py::test_two_patches",),
    "test-callbacks.sh/atomic replace": (
        "replace/test_atomic_replace.py::test_unpatch_callbacks_of_the_replaced",
    ),
    "test-shadow-vars.sh/basic shadow variable API": (
        "shadow/test_shadow_variables.py::test_every_operation",
    ),
    "test-state.sh/system state modification": (f"{_STATE}::test_state_goes_from_patch_to_patch",),
    "test-state.sh/taking over system state modification": (
        f"{_STATE}::test_state_goes_from_patch_to_patch",
    ),
    "test-state.sh/compatible cumulative livepatches": (
        f"{_STATE}::test_state_goes_from_patch_to_patch",
    ),
    "test-state.sh/incompatible cumulative livepatches": (
        f"{_STATE}::test_older_version_is_refused",
    ),
    "test-ftrace.sh/livepatch interaction with ftrace_enabled sysctl": (
        "ftrace/test_ftrace.py::test_ftrace_switched_off",
    ),
    "test-sysfs.sh/sysfs test": ("sysfs/test_attributes.py::test_modes_and_values",),
    "test-sysfs.sh/sysfs test object/patched": (
        "sysfs/test_attributes.py::test_patched_follows_the_target",
    ),
}
"""Each case of the selftests of 6.1, and the tests here of the same rules."""

_FILES_S = 600.0
_TESTS_S = 600.0


def upstream_cases(bench: Bench, spec: str, accel: str, *, progress: Progress) -> list[Figure]:
    """Measure both with all cases: the scripts one after the other in one guest, as upstream does.

    Raises HarnessError when one of them did not pass, or when the kernel has cases that are not in
    EQUIVALENTS, since the two sides would not be the same then.
    """
    suite = find_suite(source_tree(bench.kernel))
    unknown = sorted(set(_cases(suite)) - set(EQUIVALENTS))
    if unknown:
        raise HarnessError(
            f"this kernel's selftests have cases without an equivalent here: {', '.join(unknown)}",
            hint="measure on 6.1",
        )
    progress.stage("the kernel's selftests in one guest")
    scripts_s = _scripts(bench, suite)
    progress.stage("the tests of the same rules")
    tests_s = _tests(spec, accel, dict.fromkeys(chain.from_iterable(EQUIVALENTS.values())))
    return [
        ratio(
            "upstream-cases",
            f"tests of {len(EQUIVALENTS)} selftest cases, on fresh guests against scripts in one",
            side("fresh guests", "s", [tests_s]),
            side("one guest", "s", [scripts_s]),
            Budget(bound=Bound.AT_MOST, value=UPSTREAM_RATIO),
        )
    ]


def _cases(suite: Suite) -> Iterable[str]:
    return (f"{script.name}/{case}" for script in suite.scripts for case in script.cases)


def _scripts(bench: Bench, suite: Suite) -> float:
    store = Store(bench.cache)
    with tempfile.TemporaryDirectory(prefix="klp-selftests-") as name:
        files = guest_files(
            suite,
            bench.kernel,
            folder=Path(name),
            store=store,
            deadline=Deadline.after(_FILES_S),
        )
        folder = bench.folder / "selftests"
        with (
            Session(folder, bench.settings, store, extra_files=files) as session,
            session.guest(bench.kernel, name="selftests", fresh=Fresh.BOOT) as machine,
        ):
            done = [run_script(machine, script) for script in suite.scripts]
    failed = [
        f"{ran.script}/{case.name}"
        for ran in done
        for case in ran.cases
        if case.verdict is not Verdict.PASSED
    ]
    if failed:
        raise HarnessError(f"the kernel's selftests did not pass: {', '.join(failed)}")
    return sum(ran.seconds for ran in done)


def _tests(spec: str, accel: str, tests: Iterable[str]) -> float:
    suite = resource_dir(Resource.BEHAVIOUR_TESTS)
    done = run(
        [
            *(sys.executable, "-m", "harness.cli", "test", f"--kernel={spec}", f"--accel={accel}"),
            *(f"{suite}/{test}" for test in tests),
        ],
        deadline=Deadline.after(_TESTS_S),
        check=False,
    )
    if done.returncode != 0:
        raise HarnessError(
            f"the tests of the same rules failed with exit code {done.returncode}",
            hint="`klp-harness test` shows what failed",
            details=tuple(done.stdout.splitlines()[-10:]),
        )
    return done.seconds
