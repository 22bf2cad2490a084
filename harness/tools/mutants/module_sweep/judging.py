# SPDX-License-Identifier: GPL-2.0-only
"""Whether ``verify`` notices a mutant of a livepatch, scene by scene until one fails."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelBuildFailed, UsageError
from harness.report.base import CheckOutcome
from harness.tools.mutants.module_sweep.building import Built, ModuleSource, complaint
from harness.tools.mutants.sweep.results import BY_OBJECT, Noticed, SweepResult, result_of
from harness.tools.verify.api import verify_case
from harness.tools.verify.case import read_case
from harness.tools.verify.scene_list import scenes_for
from harness.tools.verify.verdict import Verdict
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.tools.mutants.sweep.explained import Explained
    from harness.tools.mutants.sweep.results import How
    from harness.tools.verify.case import Case
    from harness.tools.verify.request import VerifyRequest
    from harness.tools.verify.verdict import Check
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

_BY_SCRIPT = frozenset({Code.CHECK_FAILED, Code.CHECK_HUNG})
_HOW: Mapping[Code, How] = {
    Code.SPLAT: "splat",
    Code.PANIC: "panic",
    Code.HANG: "hang",
    Code.STUCK: "hang",
    Code.CHECK_HUNG: "timeout",
    Code.TRANSITION_TIMEOUT: "timeout",
}


class DoesNotBuild(Exception):
    """A mutant does not compile; the text is the compiler's."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Verifies a livepatch and its mutants. ``request`` is that of the clean one.

    ``scenes`` are those to run, ``warned`` what verify says of the clean livepatch.
    """

    source: ModuleSource
    request: VerifyRequest
    kernel: Kernel
    session: Session
    samples: Mapping[str, Path]
    clean: Built
    known: Mapping[str, Explained]
    sources: Mapping[str, bytes]
    scenes: tuple[str, ...] = ()
    warned: frozenset[tuple[str, Code]] = frozenset()

    def case(self) -> Case:
        """Return the case of the clean livepatch. Raises UsageError."""
        return read_case(self.request, self.kernel, self.samples)

    def with_scenes(self) -> Judge:
        """Return one that knows the scenes of its case. Raises UsageError."""
        return replace(self, scenes=tuple(spec.name for spec in scenes_for(self.case())))

    def verify_clean(self, scene: str) -> Verdict:
        """Verify the clean livepatch in one scene; raises UsageError when that does not pass."""
        verdict = self._verify(self.request, scene)
        for check in verdict.failed:
            raise UsageError(
                f"the livepatch does not pass as it is: {_words(check)}",
                hint="see klp-harness verify with the same options",
            )
        return verdict

    def judge(self, mutant: Candidate) -> SweepResult:
        """Return what becomes of a mutant. Raises DoesNotBuild."""
        known = self.known.get(mutant.name)
        if known is not None and known.kind == "equivalent":
            return self._result(mutant, CheckOutcome.EQUIVALENT, detail=known.why)
        try:
            built = self.source.build(mutant.name, mutant)
            if built.objects == self.clean.objects:
                return self._result(mutant, CheckOutcome.EQUIVALENT, detail=BY_OBJECT)
            return self._judge(mutant, built)
        except KernelBuildFailed as error:
            raise DoesNotBuild(complaint(error)) from error
        finally:
            self.source.remove(mutant.name)

    def _judge(self, mutant: Candidate, built: Built) -> SweepResult:
        given = {path.name: path for path in built.beside}
        request = replace(
            self.request,
            module=built.livepatch,
            targets=tuple(
                given.get(path.name, path) if path in self.clean.beside else path
                for path in self.request.targets
            ),
        )
        start_s = time.monotonic()
        warnings: list[str] = []
        passed: list[str] = []
        seconds = 0.0
        for scene in self.scenes:
            found = self._confirmed(request, scene)
            seconds = time.monotonic() - start_s
            if isinstance(found, HarnessError):
                return self._result(
                    mutant, CheckOutcome.ERROR, seconds=seconds, detail=found.message
                )
            noticed = (
                # The clean livepatch can be verified with this request.
                Noticed(test=scene, how="test", reason=found.message)
                if isinstance(found, UsageError)
                else next(map(_noticed, found.failed), None)
            )
            if noticed is not None:
                noticed = noticed.model_copy(update={"seconds": seconds})
                return self._result(mutant, CheckOutcome.CAUGHT, seconds=seconds, noticed=noticed)
            if not isinstance(found, UsageError):
                warnings += [
                    _words(check) for check in _warned(found) if _key(check) not in self.warned
                ]
            passed.append(scene)
        detail = f"verify warns: {'; '.join(dict.fromkeys(warnings))}" if warnings else None
        return self._result(
            mutant, CheckOutcome.SURVIVED, seconds=seconds, detail=detail, ran=tuple(passed)
        )

    def _confirmed(self, request: VerifyRequest, scene: str) -> Verdict | HarnessError | UsageError:
        """Return a verdict, where the script alone failed that of a second time.

        A script that fails by chance would catch every mutant now and then.
        """
        found = self._tried(request, scene)
        if isinstance(found, Verdict) and found.failed and found.codes <= _BY_SCRIPT:
            return self._tried(request, scene)
        return found

    def _tried(self, request: VerifyRequest, scene: str) -> Verdict | HarnessError | UsageError:
        """Return a verdict, or why there is none even the second time."""
        try:
            return self._verify(request, scene)
        except (HarnessError, UsageError):
            # The host may have been at fault.
            try:
                return self._verify(request, scene)
            except (HarnessError, UsageError) as error:
                return error

    def _verify(self, request: VerifyRequest, scene: str) -> Verdict:
        case = read_case(replace(request, scenes=(scene,)), self.kernel, self.samples)
        return verify_case(case, self.session, guests=1, on_check=lambda _: None)

    def _result(
        self,
        mutant: Candidate,
        outcome: CheckOutcome,
        *,
        seconds: float = 0.0,
        noticed: Noticed | None = None,
        detail: str | None = None,
        ran: tuple[str, ...] = (),
    ) -> SweepResult:
        made = result_of(mutant, outcome, self.sources, self.known, detail=detail)
        return made.model_copy(update={"seconds": seconds, "noticed": noticed, "ran": ran})


def warnings_of(verdict: Verdict) -> frozenset[tuple[str, Code]]:
    """Return what verify warns of: checks and their codes."""
    return frozenset(map(_key, _warned(verdict)))


def _key(check: Check) -> tuple[str, Code]:
    return check.id, check.code


def _warned(verdict: Verdict) -> list[Check]:
    return [check for check in verdict.checks if check.outcome is CheckOutcome.WARNED]


def _words(check: Check) -> str:
    return f"{check.id} [{check.code}] {check.detail}"


def _noticed(check: Check) -> Noticed:
    return Noticed(
        test=check.id, how=_HOW.get(check.code, "test"), reason=f"[{check.code}] {check.detail}"
    )
