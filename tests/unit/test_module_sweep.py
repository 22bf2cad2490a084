# SPDX-License-Identifier: GPL-2.0-only
"""A sweep of a livepatch's source without guests: how mutants are built, and what verify says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError, KernelBuildFailed, UsageError
from harness.report.base import CheckOutcome
from harness.tools.mutants.module_sweep import building
from harness.tools.mutants.module_sweep.building import Built, ModuleSource
from harness.tools.mutants.module_sweep.judging import DoesNotBuild, Judge, warnings_of
from harness.tools.mutants.sweep.explained import Explained
from harness.tools.mutants.sweep.page import sweep_page
from harness.tools.mutants.sweep.parse import candidates
from harness.tools.mutants.sweep.results import BY_OBJECT
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.verdict import Check, Verdict, failed, passed, warned
from harness.vm.kernel.codes import Code

FILE = "klp_fix.c"
SOURCE = b"""// SPDX-License-Identifier: GPL-2.0-only
int klp_show(int a)
{
	if (a)
		call(a,
			a);
	return 0;
}
"""
# negate-condition, delete-call (of two lines), zero-to-error.
NEGATED, CALL, ZERO = candidates({FILE: SOURCE})
REQUEST = VerifyRequest(module=Path("/clean/klp_fix.ko"))
CLEAN = Built(livepatch=REQUEST.module, beside=(), objects={FILE: "clean"})
SCENES = ("idle", "cycles")


@dataclass
class Source:
    """Builds nothing: the outcome of each build is given."""

    built: dict[str, Built | Exception] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    def build(self, name: str, _: object) -> Built:
        found = self.built.get(name, replace(CLEAN, objects={FILE: name}))
        if isinstance(found, Exception):
            raise found
        return found

    def remove(self, name: str) -> None:
        self.removed.append(name)


def verdict(*checks: Check) -> Verdict:
    return Verdict(module="klp_fix", checks=checks or (passed("load"),))


def judge(
    monkeypatch: pytest.MonkeyPatch,
    *answers: Verdict | Exception,
    source: Source | None = None,
    **more: Any,
) -> Judge:
    """Return one for which verify gives these answers in turn."""
    left = list(answers)

    def verify(*_: object) -> Verdict:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Judge, "_verify", verify)
    settings: dict[str, Any] = {
        "source": source or Source(),
        "request": REQUEST,
        "kernel": None,
        "session": None,
        "samples": {},
        "clean": CLEAN,
        "known": {},
        "sources": {FILE: SOURCE},
        "scenes": SCENES,
    } | more
    return Judge(**settings)


def test_first_scene_that_fails_ends_a_mutant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant is caught by its first failing check, and its copy is removed."""
    source = Source()
    bad = failed("check-during", Code.CHECK_FAILED, "it said 1")
    result = judge(monkeypatch, verdict(bad), verdict(bad), source=source).judge(ZERO)
    assert result.outcome is CheckOutcome.CAUGHT
    assert result.noticed is not None
    assert (result.noticed.test, result.noticed.how) == ("check-during", "test")
    assert result.noticed.reason == "[check-failed] it said 1"
    assert source.removed == [ZERO.name]


def test_script_that_fails_by_chance_catches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check script alone sees has to be seen twice."""
    bad = verdict(failed("check-during", Code.CHECK_FAILED, "it said 1"))
    result = judge(monkeypatch, bad, verdict(), verdict()).judge(ZERO)
    assert (result.outcome, result.ran) == (CheckOutcome.SURVIVED, SCENES)


@pytest.mark.parametrize(
    ("code", "how"),
    [(Code.SPLAT, "splat"), (Code.PANIC, "panic"), (Code.TRANSITION_TIMEOUT, "timeout")],
)
def test_how_verify_noticed(monkeypatch: pytest.MonkeyPatch, code: Code, how: str) -> None:
    """The code of the check says how, in whichever scene it fails."""
    result = judge(monkeypatch, verdict(), verdict(failed("cycles", code, "bad"))).judge(ZERO)
    assert result.noticed is not None
    assert result.noticed.how == how


def test_survivor_names_the_scenes_and_new_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that the livepatch has without a mutant says nothing about the mutant."""
    old = warned("on-stack", Code.ON_STACK, "a task is there")
    new = warned("leaks", Code.LEAK, "8 bytes")
    result = judge(
        monkeypatch, verdict(old), verdict(old, new), warned=warnings_of(verdict(old))
    ).judge(ZERO)
    assert result.outcome is CheckOutcome.SURVIVED
    assert result.ran == SCENES
    assert result.detail == "verify warns: leaks [leak] 8 bytes"


def test_mutant_of_the_same_object_is_equivalent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compiles to the same object is not verified."""
    result = judge(monkeypatch, source=Source({ZERO.name: CLEAN})).judge(ZERO)
    assert result.outcome is CheckOutcome.EQUIVALENT
    assert result.detail == BY_OBJECT


def test_proof_needs_no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant with a proof is neither built nor verified."""
    known = Explained(
        file=FILE, function="klp_show", operator="x", code="", kind="equivalent", why="it is 0"
    )
    source = Source({ZERO.name: HarnessError("it was built")})
    result = judge(monkeypatch, source=source, known={ZERO.name: known}).judge(ZERO)
    assert (result.outcome, result.detail) == (CheckOutcome.EQUIVALENT, "it is 0")


def test_known_survivor_is_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of which it is known what it needs is verified, and is no gap."""
    known = Explained(
        file=FILE, function="klp_show", operator="x", code="", kind="needs", why="two CPUs"
    )
    result = judge(monkeypatch, verdict(), verdict(), known={ZERO.name: known}).judge(ZERO)
    assert (result.outcome, result.detail) == (CheckOutcome.SURVIVED, "two CPUs")
    assert not result.is_gap


def test_host_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the harness is one only when it comes twice."""
    lost = HarnessError("no guest")
    found = judge(monkeypatch, lost, verdict(), verdict()).judge(ZERO)
    assert found.outcome is CheckOutcome.SURVIVED
    found = judge(monkeypatch, lost, lost).judge(ZERO)
    assert (found.outcome, found.detail) == (CheckOutcome.ERROR, "no guest")


def test_mutant_that_verify_refuses_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clean livepatch can be verified, so the refusal is the mutant's; if it stays."""
    refused = UsageError("it is no livepatch")
    found = judge(monkeypatch, refused, refused).judge(ZERO)
    assert found.noticed is not None
    assert found.noticed.reason == "it is no livepatch"
    found = judge(monkeypatch, refused, verdict(), verdict()).judge(ZERO)
    assert found.outcome is CheckOutcome.SURVIVED


def test_mutant_that_does_not_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with what the compiler says, and its copy is removed."""
    error = KernelBuildFailed("klp_fix does not build", details=("klp_fix.c:3: error: no",))
    source = Source({ZERO.name: error})
    with pytest.raises(DoesNotBuild, match=r"klp_fix\.c:3: error: no"):
        judge(monkeypatch, source=source).judge(ZERO)
    assert source.removed == [ZERO.name]


def test_livepatch_that_does_not_pass_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be said of the mutants of a livepatch that fails by itself."""
    bad = verdict(failed("load", Code.LOAD_REFUSED, "no such function"))
    with pytest.raises(UsageError, match=r"as it is: load \[load-refused\]"):
        judge(monkeypatch, bad).verify_clean("idle")


def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *names: str) -> ModuleSource:
    """Return a folder whose build makes modules of these names; one with klp_ is a livepatch."""
    source = tmp_path / "fix"
    source.mkdir()
    (source / "Kbuild").write_text("obj-m += klp_fix.o\n")
    (source / FILE).write_bytes(SOURCE)

    def build(_: object, copy: Path, **__: object) -> None:
        for name in names:
            (copy / f"{name}.ko").touch()
            (copy / f"{name}.mod").write_text(f"{copy / name}.o\n\n")
            (copy / f"{name}.o").write_bytes((copy / FILE).read_bytes())

    @dataclass
    class Info:
        is_livepatch: bool

    monkeypatch.setattr(building, "build_modules", build)
    monkeypatch.setattr(building, "read_module", lambda path: Info(path.stem.startswith("klp_")))

    class Kernel:
        module_variables = ()

        def signer(self) -> None:
            return None

    kernel: Any = Kernel()
    folder = tmp_path / "work"
    return ModuleSource(source=source, kernel=kernel, folder=folder, deadline=Deadline.after(60))


def test_build_of_a_mutant_is_a_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sources stay as they are, each line of the copy stays in its place."""
    source = made(monkeypatch, tmp_path, "klp_fix", "target")
    clean = source.build("clean")
    assert clean.livepatch.name == "klp_fix.ko"
    assert [path.name for path in clean.beside] == ["target.ko"]
    assert set(clean.objects) == {FILE}
    mutant = source.build(CALL.name, CALL)
    assert mutant.objects[FILE] != clean.objects[FILE]
    text = (mutant.livepatch.parent / FILE).read_bytes()
    assert b"call" not in text
    assert text.splitlines()[-2:] == SOURCE.splitlines()[-2:]
    assert len(text.splitlines()) == len(SOURCE.splitlines())
    assert (source.source / FILE).read_bytes() == SOURCE
    source.remove(CALL.name)
    assert not mutant.livepatch.exists()
    assert clean.livepatch.exists()


@pytest.mark.parametrize("names", [("target",), ("klp_fix", "klp_other")])
def test_one_livepatch_is_mutated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """A folder without a livepatch, or with several, is refused."""
    source = made(monkeypatch, tmp_path, *names)
    with pytest.raises(UsageError, match="livepatches, and one is mutated"):
        source.build("clean")


def test_page_of_a_livepatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page speaks of scenes and checks, not of tests that reach a mutant."""
    bad = failed("load", Code.LOAD_REFUSED, "no")
    results = [
        judge(monkeypatch, verdict(bad)).judge(NEGATED),
        judge(monkeypatch, verdict(), verdict()).judge(ZERO),
    ]
    page = sweep_page(results, {FILE: SOURCE}, "klp_fix on 6.1", by_verify=True)
    words = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page))
    assert "klp_fix on 6.1. Of 2 mutants that verify could notice, 1 was caught" in words
    assert "1 by a failing check" in words
    assert "2 scenes passed on it idle, cycles" in words
    assert "tests reach it" not in words
