# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own livepatch selftests in one guest, against the tests here that prove the same."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bench.figures import Bound, Budget, ratio, side
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.guest.session import Fresh, Session
from harness.host.cache import Store
from harness.host.process import run
from harness.selftests.image import guest_files
from harness.selftests.output import Verdict
from harness.selftests.run import run_script
from harness.selftests.tree import find_suite, source_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.bench.figures import Figure
    from harness.bench.measure import Bench
    from harness.kernel.progress import Progress
    from harness.selftests.tree import Suite

UPSTREAM_RATIO = 1 / 4
RULES: Mapping[str, tuple[str, ...]] = {
    "test-livepatch.sh/basic function patching": ("TR-16",),
    "test-livepatch.sh/multiple livepatches": ("ST-01",),
    "test-livepatch.sh/atomic replace livepatch": ("RP-10",),
    "test-callbacks.sh/target module before livepatch": ("CB-01",),
    "test-callbacks.sh/module_coming notifier": ("CB-02",),
    "test-callbacks.sh/module_going notifier": ("CB-03",),
    "test-callbacks.sh/module_coming and module_going notifiers": ("MO-02",),
    "test-callbacks.sh/target module not present": ("CB-04",),
    "test-callbacks.sh/pre-patch callback -ENODEV": ("CB-05",),
    "test-callbacks.sh/module_coming + pre-patch callback -ENODEV": ("CB-06",),
    "test-callbacks.sh/multiple target modules": ("CB-11",),
    "test-callbacks.sh/busy target module": ("CB-09",),
    "test-callbacks.sh/multiple livepatches": ("CB-11",),
    "test-callbacks.sh/atomic replace": ("RP-06",),
    "test-shadow-vars.sh/basic shadow variable API": ("SV-01",),
    "test-state.sh/system state modification": ("KS-01",),
    "test-state.sh/taking over system state modification": ("KS-01",),
    "test-state.sh/compatible cumulative livepatches": ("KS-01",),
    "test-state.sh/incompatible cumulative livepatches": ("KS-02",),
    "test-ftrace.sh/livepatch interaction with ftrace_enabled sysctl": ("FT-01",),
    "test-sysfs.sh/sysfs test": ("SY-01",),
    "test-sysfs.sh/sysfs test object/patched": ("SY-02",),
}
"""Each case of the suite of 6.1, and the rules whose tests prove what it proves."""

_FILES_S = 600.0
_TESTS_S = 600.0


def upstream_cases(bench: Bench, spec: str, accel: str, *, progress: Progress) -> list[Figure]:
    """Measure both, all cases: the scripts one after the other in one guest, as their runner does.

    Raises HarnessError when one of them did not pass, or when the kernel's suite has cases of which
    nothing is known here: the figure would not say what it seems to.
    """
    suite = find_suite(source_tree(bench.kernel))
    unknown = sorted(set(_cases(suite)) - set(RULES))
    if unknown:
        raise HarnessError(
            f"this kernel's selftests have cases without an equivalent here: {', '.join(unknown)}",
            hint="measure on 6.1",
        )
    progress.stage("the kernel's selftests in one guest")
    scripts_s = _scripts(bench, suite)
    progress.stage("the tests of the same rules")
    tests_s = _tests(spec, accel, sorted({rule for rules in RULES.values() for rule in rules}))
    return [
        ratio(
            "upstream-cases",
            f"tests of {len(RULES)} selftest cases, on fresh guests against the scripts in one",
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
            Session(folder, bench.settings, store, more=files) as session,
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


def _tests(spec: str, accel: str, rules: Iterable[str]) -> float:
    done = run(
        [
            *(sys.executable, "-m", "harness.cli", "test", f"--kernel={spec}", f"--accel={accel}"),
            *("-k", " or ".join(rules)),
        ],
        deadline=Deadline.after(_TESTS_S),
        check=False,
    )
    if done.returncode != 0:
        raise HarnessError(
            f"the tests of these rules ended with exit code {done.returncode}",
            hint="`klp-harness test` shows what failed",
            details=tuple(done.stdout.splitlines()[-10:]),
        )
    return done.seconds
