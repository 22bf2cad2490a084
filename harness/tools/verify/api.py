# SPDX-License-Identifier: GPL-2.0-only
"""verify_patch(): the whole battery for one module, as a function."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.log import LOGGER
from harness.resources import Resource, resource_dir
from harness.tools.verify.battery import Battery, not_reached
from harness.tools.verify.case import read_case
from harness.tools.verify.file_checks import host_checks
from harness.tools.verify.scene_list import plots_for
from harness.tools.verify.verdict import Check, CheckResult, Code, Verdict
from harness.vm.elf.module_info import read_module
from harness.vm.guest import runs
from harness.vm.kernel.build import DEFAULT_SPEC, KernelRequest, obtain_kernel
from harness.vm.kernel.module import obtain_modules
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.errors import HarnessError
    from harness.report.run_results import RunResult
    from harness.tools.verify.battery import Played
    from harness.tools.verify.request import VerifyRequest
    from harness.vm.guest.session import Session
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

MOST_GUESTS = 6
_PROBE_S = 60.0
_KERNEL_S = 3600.0
_MODULES_S = 600.0


def verify_patch(
    request: VerifyRequest,
    *,
    kernel: Kernel | str = DEFAULT_SPEC,
    session: Session | None = None,
    samples: Mapping[str, Path] | None = None,
    guests: int | None = None,
    on_check: Callable[[Check], None] = lambda _: None,
) -> Verdict:
    """Verify a livepatch on a kernel: its file first, then in fresh guests; return the verdict.

    ``kernel`` is one that is built, or a spec as ``--kernel`` takes it. ``session`` starts the
    guests; without one, a run is made for this call, whose logs stay when a check did not pass.
    ``on_check`` is called with each check when it is known. Raises UsageError for what cannot be
    verified (no livepatch, another kernel's, a check script that does not hold before the patch),
    and HarnessError when harness or host failed and nothing else did.
    """
    made = _kernel(kernel) if isinstance(kernel, str) else kernel
    known = _samples(made) if samples is None else samples
    if session is not None:
        return _verify(request, made, session, known, guests or MOST_GUESTS, on_check)
    choice = runs.accelerator()
    count = guests or guests_at_a_time(choice)
    passed = False
    with runs.open_session(choice, name="verify", guests=count, keep=lambda: not passed) as own:
        verdict = _verify(request, made, own, known, count, on_check)
        passed = verdict.outcome is CheckResult.PASSED
    return verdict


def guests_at_a_time(choice: AccelChoice) -> int:
    """Return how many guests a battery has at a time on this host."""
    return min(runs.guests_at_a_time(choice), MOST_GUESTS)


def _verify(
    request: VerifyRequest,
    kernel: Kernel,
    session: Session,
    samples: Mapping[str, Path],
    guests: int,
    on_check: Callable[[Check], None],
) -> Verdict:
    start_s = time.monotonic()
    case = read_case(request, kernel, samples)
    checks = list(
        host_checks(
            case.info,
            kernel,
            targets=case.targets,
            absent=case.plan.absent,
            older=[read_module(plan.path) for plan in case.older],
        )
    )
    for check in checks:
        on_check(check)
    runs: list[RunResult] = []
    troubles: list[HarnessError] = []
    refused = any(check.outcome is CheckResult.FAILED for check in checks)
    # What the kernel will not take is shown once, and not in every scene.
    plots = plots_for(case)[:1] if refused else plots_for(case)
    places = {plot.name: number for number, plot in enumerate(plots)}
    played: list[Played] = []
    for each in Battery(case, session, kernel, plots, guests=guests).play():
        played.append(each)
        for check in each.notes.checks:
            on_check(check)
    for each in sorted(played, key=lambda one: places[one.plot.name]):
        checks += (*each.notes.checks, *not_reached(each))
        runs += each.notes.runs
        if isinstance(each.error, UsageError):
            raise each.error
        if each.error is not None:
            troubles.append(each.error)
    checks.append(_no_splat(played))
    on_check(checks[-1])
    verdict = Verdict(
        module=case.name,
        checks=tuple(checks),
        runs=tuple(runs),
        seconds=time.monotonic() - start_s,
        trouble=tuple(troubles),
    )
    if troubles and verdict.outcome is not CheckResult.FAILED:
        raise troubles[0]
    return verdict


def _no_splat(played: Sequence[Played]) -> Check:
    found = [(each.plot.name, each.notes.splat) for each in played if each.notes.splat]
    if not found:
        return Check(
            id="no-splat",
            outcome=CheckResult.PASSED,
            detail=f"the kernel complained in none of {sum(bool(p.notes.checks) for p in played)} "
            "guests",
        )
    return Check(
        id="no-splat",
        outcome=CheckResult.FAILED,
        code=Code.SPLAT,
        detail=f"in {', '.join(name for name, _ in found)}: {found[0][1]}",
        lines=tuple(f"{name}: {splat}" for name, splat in found),
    )


def _kernel(spec: str) -> Kernel:
    return obtain_kernel(
        KernelRequest(spec=spec),
        store=runs.store(),
        deadline=Deadline.after(_KERNEL_S),
        progress=LineProgress(LOGGER.info),
    )


def _samples(kernel: Kernel) -> Mapping[str, Path]:
    return obtain_modules(
        kernel,
        resource_dir(Resource.LIVEPATCH_MODULES),
        store=runs.store(),
        deadline=Deadline.after(_MODULES_S),
    )
