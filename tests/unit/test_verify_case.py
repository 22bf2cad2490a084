# SPDX-License-Identifier: GPL-2.0-only
"""verify without a guest: files that do not go together, files read once, and the page."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.report.run_results import Mark, RunResult, StateChange, TaskHistory
from harness.tools.verify.case import check_together, read_case
from harness.tools.verify.page import verify_page
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.results import VerdictFacts, VerifyResult
from harness.vm.elf.module_info import read_module
from tests.unit.test_file_checks import module, patch

if TYPE_CHECKING:
    from harness.vm.elf.module_info import ModuleInfo


# -- names


KERNEL: Any = object()
MODULES = Path(__file__).parent / "data/modules"
PATCH = MODULES / "klp_test_cmdline_a.ko"


def test_two_modules_of_one_name(tmp_path: Path) -> None:
    """The kernel loads one of them only, so they conflict."""
    copy = tmp_path / PATCH.name
    copy.write_bytes(PATCH.read_bytes())
    with pytest.raises(UsageError, match="conflict"):
        read_case(VerifyRequest(module=PATCH, replaces=(copy,)), KERNEL, {})


def test_a_file_is_read_once() -> None:
    """A target that two requests share is read for the first of them."""
    files: list[Path] = []

    def read(path: Path) -> ModuleInfo:
        files.append(path)
        return read_module(path)

    once = functools.cache(read)
    target = MODULES / "klp_target_gate.ko"
    for _ in range(2):
        request = VerifyRequest(module=MODULES / "klp_test_gate.ko", targets=(target,))
        case = read_case(request, KERNEL, {}, read=once)
        assert [each.name for each in case.targets] == ["klp_target_gate"]
    assert sorted(files) == sorted({target, MODULES / "klp_test_gate.ko"})


@pytest.mark.parametrize(
    ("one", "other", "replaces", "conflict"),
    [("f", "f", False, True), ("f", "g", False, False), ("f", "f", True, False)],
)
def test_patches_of_one_function(one: str, other: str, replaces: bool, conflict: bool) -> None:
    """Two patches of one function conflict, unless one of them replaces the other."""
    patches = [
        module("klp_one", patch=patch(one)),
        module("klp_other", patch=patch(other, replace=replaces)),
    ]
    if not conflict:
        check_together(patches)
        return
    with pytest.raises(UsageError, match=r"conflict: both patch f\(\) of vmlinux"):
        check_together(patches)


def test_one_module_named_twice() -> None:
    """It conflicts with itself."""
    with pytest.raises(UsageError, match="named twice"):
        check_together([module(), module()])


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"replaces": (MODULES / "klp_target_gate.ko",)}, "is not a livepatch"),
        ({"check": MODULES / "none.sh"}, "no check script"),
    ],
)
def test_files_that_are_refused(files: dict[str, Any], why: str) -> None:
    """A module as an older patch, and a script that does not exist, are usage errors."""
    with pytest.raises(UsageError, match=why):
        read_case(VerifyRequest(module=PATCH, **files), KERNEL, {})


# -- the page


def recorded() -> RunResult:
    return RunResult(
        id="klp_fix/idle",
        outcome=CheckOutcome.PASSED,
        seconds=2.0,
        module="klp_fix.ko",
        marks=(Mark(at_s=1.0, what="patching starts"), Mark(at_s=2.0, what="complete")),
        tasks=(
            TaskHistory(
                tid=7,
                comm="<sleeper>",
                kthread=False,
                changes=(
                    StateChange(at_s=0.0, state=-1),
                    StateChange(at_s=1.0, state=0),
                    StateChange(at_s=1.5, state=1),
                    StateChange(at_s=2.0, state=-1),
                ),
            ),
            TaskHistory(
                tid=8, comm="idle", kthread=True, changes=(StateChange(at_s=0.0, state=-1),)
            ),
        ),
    )


def test_the_page() -> None:
    """The page needs no other file, escapes what a guest printed, and draws each timeline."""
    result = VerifyResult(
        id="leaks",
        outcome=CheckOutcome.FAILED,
        seconds=1.0,
        module="klp_fix",
        code="leak",
        detail="<script>",
        advice="free it",
        lines=("kmalloc-64",),
    )
    facts = VerdictFacts(module="klp_fix", outcome="failed", path="klp_fix.ko", codes=("leak",))
    page = verify_page([facts], [result], [recorded()], kernel="6.1", accelerator="tcg")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "src=" not in page
    assert 'href="http' not in page
    assert "free it" in page
    assert page.count("<svg") == 1
