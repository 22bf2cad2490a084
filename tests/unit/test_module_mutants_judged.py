# SPDX-License-Identifier: GPL-2.0-only
"""Module mutants: how they are judged, by what verify says of them and of the module itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.module_mutation import judge as judging
from benchmarks.module_mutation.judge import Batch, ModuleMutant, Place, judge, not_run
from benchmarks.module_mutation.operators import Mutation, choose
from benchmarks.module_mutation.results import ModuleMutantResult
from harness.errors import HarnessError, UsageError
from harness.report.base import CheckOutcome
from harness.tools.verify import Check, Code, Verdict, VerifyRequest


def failed(name: str, code: Code) -> Check:
    return Check(id=name, outcome=CheckOutcome.FAILED, code=code, detail="it says why")


PASSED = Check(id="load", outcome=CheckOutcome.PASSED)
WARNING = Check(id="targets", outcome=CheckOutcome.WARNED, code=Code.TARGET_MISSING)
OTHER_WARNING = Check(id="states", outcome=CheckOutcome.WARNED, code=Code.NOT_CUMULATIVE)


def batch(tmp_path: Path, *kinds: str) -> Batch:
    request = VerifyRequest(module=tmp_path / "clean" / "it.ko")
    mutants = tuple(
        ModuleMutant(
            operator=operator,
            mutation=Mutation(where="f", change="", edit=lambda _: None),
            request=replace(
                request, module=tmp_path / operator.name / "it.ko", scenes=operator.scenes
            ),
        )
        for operator in choose(kinds)
    )
    return Batch(clean=request, mutants=mutants, inapplicable=())


class Verifying:
    """In the place of verify: a verdict, or an error, for each folder a module lies in."""

    def __init__(self, **said: tuple[Check, ...] | Exception) -> None:
        self.said = said
        self.asked: list[VerifyRequest] = []

    def __call__(self, request: VerifyRequest, **_: object) -> Verdict:
        self.asked.append(request)
        said = self.said.get(request.module.parent.name.replace("-", "_"), (PASSED,))
        if isinstance(said, Exception):
            raise said
        return Verdict(module="it", checks=said)


def results(
    monkeypatch: pytest.MonkeyPatch, verifying: Verifying, made: Batch
) -> list[ModuleMutantResult]:
    monkeypatch.setattr(judging, "verify_patch", verifying)
    place = Place(kernel=None, session=None, samples={}, guests=2)  # type: ignore[arg-type]
    return sorted(judge([made], place), key=lambda result: result.kind)


@pytest.mark.parametrize(
    ("checks", "outcome", "by_script"),
    [
        ((PASSED,), CheckOutcome.SURVIVED, False),
        ((PASSED, WARNING), CheckOutcome.SURVIVED, False),
        ((PASSED, OTHER_WARNING), CheckOutcome.WARNED, False),
        ((failed("check-during", Code.CHECK_FAILED),), CheckOutcome.CAUGHT, True),
        ((failed("x", Code.CHECK_FAILED), OTHER_WARNING), CheckOutcome.CAUGHT, False),
        (
            (failed("check-during", Code.CHECK_FAILED), failed("no-splat", Code.SPLAT)),
            CheckOutcome.CAUGHT,
            False,
        ),
        ((failed("functions", Code.NO_SUCH_FUNCTION),), CheckOutcome.CAUGHT, False),
        (
            (failed("functions", Code.NO_SUCH_FUNCTION), failed("load", Code.LOAD_REFUSED)),
            CheckOutcome.DOES_NOT_LOAD,
            False,
        ),
        ((failed("load-again", Code.LOAD_REFUSED),), CheckOutcome.CAUGHT, False),
        (HarnessError("no room"), CheckOutcome.ERROR, False),
        (UsageError("the script fails"), CheckOutcome.ERROR, False),
    ],
)
def test_what_a_mutant_comes_to(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    checks: tuple[Check, ...] | Exception,
    outcome: CheckOutcome,
    by_script: bool,
) -> None:
    """A warning that the clean module gets as well says nothing of the mutant."""
    verifying = Verifying(clean=(PASSED, WARNING), nop_set=checks)
    (result,) = results(monkeypatch, verifying, batch(tmp_path, "nop-set"))
    assert result.outcome is outcome
    assert result.by_script is by_script
    assert result.id == "it/nop-set/f"


def test_of_a_module_that_fails_itself_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its mutants are errors, and are not even tried."""
    verifying = Verifying(
        clean=(failed("check-during", Code.CHECK_FAILED),), nop_set=(failed("load", Code.PANIC),)
    )
    (result,) = results(monkeypatch, verifying, batch(tmp_path, "nop-set"))
    assert result.outcome is CheckOutcome.ERROR
    assert result.caught_by == ()
    assert result.detail is not None
    assert "the clean module does not pass: check-during [check-failed]" in result.detail
    assert len(verifying.asked) == 1


def test_the_clean_module_plays_the_scenes_of_all_its_mutants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And each mutant that of its kind alone."""
    verifying = Verifying()
    made = batch(tmp_path, "nop-set", "other-name", "no-replace")
    assert len(results(monkeypatch, verifying, made)) == 3
    assert verifying.asked[0].scenes == ("idle", "upgrade")
    assert sorted(request.scenes for request in verifying.asked[1:]) == [
        ("idle",),
        ("idle",),
        ("upgrade",),
    ]


def test_a_listed_mutant_says_what_it_is(tmp_path: Path) -> None:
    """A list has the kind and the scenes of a mutant that did not run."""
    (mutant,) = batch(tmp_path, "no-replace").mutants
    result = not_run(mutant)
    assert (result.outcome, result.kind, result.scenes) == (
        CheckOutcome.NOT_RUN,
        "no-replace",
        ("upgrade",),
    )
