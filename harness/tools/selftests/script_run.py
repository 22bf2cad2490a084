# SPDX-License-Identifier: GPL-2.0-only
"""Runs selftest scripts in guests, and returns the outcome of each of their cases."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import KernelVerdict
from harness.tools.selftests.image import FOLDER
from harness.tools.selftests.output import Case, ScriptOutput, Verdict

if TYPE_CHECKING:
    from harness.tools.selftests.tree import Script
    from harness.vm.guest.machine import Machine

_SCRIPT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class ScriptRun:
    """One script's cases and how long it took."""

    script: str
    cases: tuple[Case, ...]
    seconds: float


def run_script(machine: Machine, script: Script) -> ScriptRun:
    """Run a script in that guest to its end.

    A panic or a splat fails the case that ran, and so does a script that does not end. Raises
    HarnessError for failures that are not the kernel's.
    """
    start_s = time.monotonic()
    output = ScriptOutput(script.cases, start_s)
    code = 1
    try:
        process = machine.spawn("bash", "-c", f"cd {FOLDER} && exec ./{script.name} 2>&1")
        deadline = machine.scaled(_SCRIPT_S)
        for line in process.lines(deadline):
            output.take(line, time.monotonic())
        code = process.wait(deadline)
        machine.check_splats()
        cases = output.finish(code)
    except TimeoutError:
        cases = output.finish(
            1, (f"the script did not end within {_SCRIPT_S:.0f} s (more on a slow host)",)
        )
    except KernelVerdict as error:
        cases = output.finish(code or 1, (error.message, *error.details))
        if all(case.verdict is Verdict.PASSED for case in cases):
            cases = (*cases, Case(name="kernel", verdict=Verdict.FAILED, detail=[error.message]))
    return ScriptRun(script=script.name, cases=cases, seconds=time.monotonic() - start_s)
