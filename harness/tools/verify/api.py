# SPDX-License-Identifier: GPL-2.0-only
"""verify_patch(): all checks of one livepatch, as a function."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.log import LOGGER
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir
from harness.tools.verify.alone import nothing_to_judge, without_refused
from harness.tools.verify.case import read_case
from harness.tools.verify.file_checks import check_file
from harness.tools.verify.logs import no_splat
from harness.tools.verify.runner import SceneRunner
from harness.tools.verify.scene_list import scenes_for
from harness.tools.verify.verdict import Check, Verdict
from harness.vm.guest import runs
from harness.vm.kernel.build import DEFAULT_SPEC, KernelRequest, obtain_kernel
from harness.vm.kernel.module import obtain_modules
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.tools.verify.case import Case
    from harness.tools.verify.request import VerifyRequest
    from harness.tools.verify.scene import SceneResult
    from harness.vm.guest.session import Session
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel

MOST_GUESTS = 6
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
    verified (no livepatch, one for another kernel, a check script that fails before the patch is
    loaded), and HarnessError when harness or host failed and no check did.
    """
    made = _kernel(kernel) if isinstance(kernel, str) else kernel
    case = read_case(request, made, _samples(made) if samples is None else samples)
    if session is not None:
        return verify_case(case, session, guests=guests or MOST_GUESTS, on_check=on_check)
    choice = runs.accelerator()
    count = guests or guests_at_a_time(choice)
    has_passed = False
    with runs.open_session(choice, name="verify", guests=count, keep=lambda: not has_passed) as own:
        verdict = verify_case(case, own, guests=count, on_check=on_check)
        has_passed = verdict.outcome is CheckOutcome.PASSED
    return verdict


def guests_at_a_time(choice: AccelChoice) -> int:
    """Return how many scenes are run at a time on this host."""
    return min(runs.guests_at_a_time(choice), MOST_GUESTS)


def verify_case(
    case: Case,
    session: Session,
    *,
    guests: int,
    on_check: Callable[[Check], None],
    gate: AbstractContextManager[object] | None = None,
) -> Verdict:
    """Verify a livepatch whose files have been read; else as `verify_patch`.

    ``gate`` is held while a guest is used: cases that run side by side share one that bounds them.
    """
    gate = gate or contextlib.nullcontext()
    start_s = time.monotonic()
    older = [plan.info for plan in case.older if plan.info is not None]
    absent = case.plan.absent
    checks = list(
        check_file(case.info, case.kernel, targets=case.targets, absent=absent, older=older)
    )
    for check in checks:
        on_check(check)
    if case.plan.targets:
        with gate:
            case = without_refused(case, session)
    specs = scenes_for(case)
    if any(check.outcome is CheckOutcome.FAILED for check in checks):
        # One scene shows that the kernel refuses the patch.
        specs = specs[:1]
    results: dict[str, SceneResult] = {}
    for result in SceneRunner(case, session, guests=guests, gate=gate).run(specs):
        results[result.spec.name] = result
        for check in result.checks:
            on_check(check)
    in_order = [results[spec.name] for spec in specs]
    errors = [result.error for result in in_order if result.error is not None]
    for error in errors:
        if isinstance(error, UsageError):
            raise error
    for result in in_order:
        checks += (*result.checks, *result.not_reached())
    checks.append(no_splat(in_order))
    on_check(checks[-1])
    verdict = Verdict(
        module=case.name,
        checks=tuple(checks),
        runs=tuple(run for result in in_order for run in result.runs),
        executed=tuple(each for result in in_order for each in result.executed),
        seconds=time.monotonic() - start_s,
    )
    if errors and not verdict.failed:
        raise errors[0]
    if not verdict.failed and (nothing := nothing_to_judge(case)) is not None:
        raise nothing
    return verdict


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
