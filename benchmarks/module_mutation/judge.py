# SPDX-License-Identifier: GPL-2.0-only
"""Makes mutants of livepatches and finds out which checks of `verify` fail."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.module_mutation.patch_file import LivepatchFile
from benchmarks.module_mutation.results import ModuleMutantResult, Notice
from benchmarks.module_mutation.substitutes import Substitutes
from harness.errors import HarnessError, UsageError
from harness.report.base import CheckOutcome
from harness.threads import run_jobs
from harness.tools.verify import Code, verify_patch
from harness.tools.verify.case import read_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.module_mutation.operators import Mutation, Operator
    from benchmarks.module_mutation.subjects import Subject
    from harness.tools.verify import Check, Verdict, VerifyRequest
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

_BY_SCRIPT = frozenset({Code.CHECK_FAILED, Code.CHECK_HUNG})
_LOAD = "load"


@dataclass(frozen=True, kw_only=True)
class ModuleMutant:
    """A mutated module; its file is ``request.module``.

    ``equivalent`` is a proof that no check can notice it.
    """

    operator: Operator
    mutation: Mutation
    request: VerifyRequest
    equivalent: str | None = None

    @property
    def id(self) -> str:
        """Module, kind and place."""
        return f"{self.request.module.stem}/{self.operator.name}/{self.mutation.where}"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A correct module, its mutants, and the kinds without a mutant of it."""

    clean: VerifyRequest
    mutants: tuple[ModuleMutant, ...]
    inapplicable: tuple[Operator, ...]

    @property
    def scenes(self) -> tuple[str, ...]:
        """The scenes of all its mutants."""
        return tuple(dict.fromkeys(name for each in self.mutants for name in each.request.scenes))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where mutants are judged: a kernel, guests, and the harness's own modules by name."""

    kernel: Kernel
    session: Session
    samples: Mapping[str, Path]
    guests: int


def make_mutants(
    subject: Subject,
    operators: Sequence[Operator],
    *,
    kernel: Kernel,
    samples: Mapping[str, Path],
    folder: Path,
) -> Batch:
    """Write the mutants of a module to ``folder``, and return them.

    A mutant runs in the scenes of the subject's request or, without these, in those of its kind.
    Raises UsageError for a module whose file does not have its functions, or that cannot be
    verified.
    """
    case = read_case(subject.request, kernel, samples)
    beside = Substitutes.of(kernel, case.targets)
    # A mutant may name another module: it gets the same targets as the clean module.
    request = replace(subject.request, targets=tuple(target.path for target in case.plan.targets))
    content = request.module.read_bytes()
    mutants: list[ModuleMutant] = []
    inapplicable: list[Operator] = []
    for operator in operators:
        file = LivepatchFile(content, case.name)
        usable = not operator.needs_older or bool(request.replaces)
        found = list(operator.find(file, beside)) if usable else []
        if not found:
            inapplicable.append(operator)
        for mutation in found:
            changed = LivepatchFile(content, case.name)
            mutation.edit(changed)
            # The file keeps its name, which is the name of the module.
            path = folder / case.name / operator.name / mutation.where.replace(":", "-")
            path.mkdir(parents=True)
            path /= request.module.name
            path.write_bytes(changed.elf.content())
            mutant = replace(request, module=path, scenes=request.scenes or operator.scenes)
            mutants.append(
                ModuleMutant(
                    operator=operator,
                    mutation=mutation,
                    request=mutant,
                    equivalent=subject.equivalent.get(f"{operator.name}/{mutation.where}"),
                )
            )
    return Batch(clean=request, mutants=tuple(mutants), inapplicable=tuple(inapplicable))


def not_run(mutant: ModuleMutant) -> ModuleMutantResult:
    """Return the result of a mutant that has not run."""
    return ModuleMutantResult(
        id=mutant.id,
        outcome=CheckOutcome.NOT_RUN,
        seconds=0.0,
        module=mutant.request.module.stem,
        kind=mutant.operator.name,
        broken=mutant.operator.breaks,
        change=mutant.mutation.change,
        equivalent=mutant.equivalent,
        scenes=mutant.request.scenes,
    )


def not_applicable(batch: Batch) -> tuple[ModuleMutantResult, ...]:
    """Return a result for each kind without a mutant of the module, with the reason."""
    module = batch.clean.module.stem
    return tuple(
        ModuleMutantResult(
            id=f"{module}/{operator.name}",
            outcome=CheckOutcome.NOT_APPLICABLE,
            seconds=0.0,
            module=module,
            kind=operator.name,
            broken=operator.breaks,
            detail=f"it needs {operator.needs}",
        )
        for operator in batch.inapplicable
    )


def judge(
    batches: Sequence[Batch],
    place: Place,
    *,
    on_clean: Callable[[VerifyRequest, str | None], None] = lambda _, __: None,
) -> Iterator[ModuleMutantResult]:
    """Yield the result of each mutant as soon as it is known.

    The clean modules are verified first, in the scenes of their mutants. When one fails, each of
    its mutants is an error. ``on_clean`` gets the request of each clean module, and its failure or
    None. Raises UsageError for a module or a check script that cannot be used.
    """
    clean: dict[int, _Clean] = {}
    used = [(number, batch) for number, batch in enumerate(batches) if batch.mutants]
    for number, found in run_jobs(
        used,
        lambda job: (job[0], _verify_clean(job[1], place)),
        at_a_time=place.guests,
        name="clean modules",
    ):
        clean[number] = found
        on_clean(batches[number].clean, found.trouble)
    jobs = [(mutant, clean[number]) for number, batch in used for mutant in batch.mutants]
    yield from run_jobs(
        jobs, lambda job: _judge(*job, place), at_a_time=place.guests, name="mutants"
    )


@dataclass(frozen=True, kw_only=True)
class _Clean:
    """The warnings of a clean module, or why its mutants cannot be judged."""

    warned: frozenset[tuple[str, Code]] = field(default=frozenset())
    trouble: str | None = None


def _verify_clean(batch: Batch, place: Place) -> _Clean:
    try:
        verdict = _verify(replace(batch.clean, scenes=batch.scenes), place)
    except HarnessError as error:
        return _Clean(trouble=f"the clean module could not be verified: {error.message}")
    if verdict.failed:
        check = verdict.failed[0]
        return _Clean(
            trouble=f"the clean module does not pass: {check.id} [{check.code}] {check.detail}"
        )
    return _Clean(warned=frozenset((each.id, each.code) for each in _warned(verdict)))


def _judge(mutant: ModuleMutant, clean: _Clean, place: Place) -> ModuleMutantResult:
    result = not_run(mutant)
    if clean.trouble is not None:
        return result.model_copy(update={"outcome": CheckOutcome.ERROR, "detail": clean.trouble})
    start_s = time.monotonic()
    try:
        verdict = _verify(mutant.request, place)
    except (HarnessError, UsageError) as error:
        return result.model_copy(
            update={
                "outcome": CheckOutcome.ERROR,
                "seconds": time.monotonic() - start_s,
                "detail": error.message,
            }
        )
    return judged(result, verdict, clean.warned)


def judged(
    result: ModuleMutantResult, verdict: Verdict, warned: frozenset[tuple[str, Code]]
) -> ModuleMutantResult:
    """Return the result with a verdict; ``warned`` are the warnings of the clean module."""
    failed = verdict.failed
    warnings = [each for each in _warned(verdict) if (each.id, each.code) not in warned]
    if any(each.id == _LOAD and each.code is Code.LOAD_REFUSED for each in failed):
        outcome = CheckOutcome.DOES_NOT_LOAD
    elif failed:
        outcome = CheckOutcome.CAUGHT
    else:
        outcome = CheckOutcome.WARNED if warnings else CheckOutcome.SURVIVED
    return result.model_copy(
        update={
            "outcome": outcome,
            "seconds": verdict.seconds,
            "caught_by": tuple(map(_notice, failed)),
            "warned_by": tuple(map(_notice, warnings)),
            "by_script": bool(failed)
            and not warnings
            and all(each.code in _BY_SCRIPT for each in failed),
        }
    )


def _verify(request: VerifyRequest, place: Place) -> Verdict:
    return verify_patch(
        request,
        kernel=place.kernel,
        session=place.session,
        samples=place.samples,
        guests=1,
    )


def _warned(verdict: Verdict) -> list[Check]:
    return [check for check in verdict.checks if check.outcome is CheckOutcome.WARNED]


def _notice(check: Check) -> Notice:
    return Notice(check=check.id, code=check.code.value, detail=check.detail)
