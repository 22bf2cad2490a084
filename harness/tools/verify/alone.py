# SPDX-License-Identifier: GPL-2.0-only
"""What the targets do without the patch: that is nothing that the patch has done."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import KernelVerdict, LostGuest, ModuleRefused, UsageError

if TYPE_CHECKING:
    from harness.observe.load_plan import Target
    from harness.tools.verify.case import Case
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session

_LOAD_S = 15.0
_TRIES = 2


def without_refused(case: Case, session: Session) -> Case:
    """Return the case, which knows the targets that a fresh guest refuses without the patch.

    Raises HarnessError when the guest was lost, or could not be started.
    """
    if not case.plan.targets:
        return case
    for attempt in range(_TRIES):
        try:
            return replace(case, refused=_refused(case, session))
        except LostGuest:
            if attempt + 1 == _TRIES:
                raise
    raise AssertionError


def _refused(case: Case, session: Session) -> dict[str, str]:
    refused: dict[str, str] = {}
    started = False
    try:
        with session.guest(case.kernel, name=f"{case.name}-targets-alone") as machine:
            started = True
            for target in case.plan.targets:
                try:
                    _load(machine, target)
                except ModuleRefused as error:
                    refused[target.name] = error.message
    except KernelVerdict as error:
        if not started:
            raise LostGuest(
                f"no guest for the targets alone: {error.message}", details=error.details
            ) from error
        refused[target.name] = error.message
    except TimeoutError:
        refused[target.name] = f"the load of {target.name} does not end"
    return refused


def _load(machine: Machine, target: Target) -> None:
    """Load a target; raises ModuleRefused, KernelVerdict when it does harm, and TimeoutError."""
    machine.insmod(machine.upload(target.path), deadline=machine.scaled(_LOAD_S))
    machine.check_splats()


def words(case: Case) -> str:
    """Return in a sentence which targets cannot be loaded, patch or no patch."""
    names = ", ".join(case.refused)
    why = next(iter(case.refused.values()), "")
    return f"{names} cannot be loaded in this guest without the patch either: {why}"


def nothing_to_judge(case: Case) -> UsageError | None:
    """Return the error for a patch of which nothing could be seen; None when something could."""
    patch = case.info.patch
    if not case.refused or patch is None:
        return None
    missing = {*case.refused, *case.plan.absent}
    elsewhere = any(each.object not in missing for each in patch.functions)
    depends = any(name in case.refused for name in case.info.depends)
    if elsewhere and not depends:
        return None
    return UsageError(
        f"nothing of {case.name} can be judged: {words(case)}",
        hint="verify it where its hardware is, or give the modules that the target needs with "
        "--target, before it",
    )
