# SPDX-License-Identifier: GPL-2.0-only
"""verify without a guest: files that do not go together, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import (
    UsageError,
)
from harness.report.base import CheckOutcome
from harness.report.run_results import Mark, RunResult, StateChange, TaskHistory
from harness.tools.verify.case import check_together, read_case
from harness.tools.verify.page import verify_page
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.results import VerdictFacts, VerifyResult
from tests.unit.test_file_checks import module, patch

if TYPE_CHECKING:
    pass


# -- names


KERNEL: Any = object()
MODULES = Path(__file__).parent / "data/modules"


def test_two_modules_of_one_name_conflict(tmp_path: Path) -> None:
    module = MODULES / "klp_test_cmdline_a.ko"
    copy = tmp_path / module.name
    copy.write_bytes(module.read_bytes())
    with pytest.raises(UsageError, match="conflict"):
        read_case(VerifyRequest(module=module, replaces=(copy,)), KERNEL, {})


@pytest.mark.parametrize(
    ("one", "other", "replaces", "conflict"),
    [("f", "f", False, True), ("f", "g", False, False), ("f", "f", True, False)],
)
def test_patches_of_one_function_conflict(
    one: str, other: str, replaces: bool, conflict: bool
) -> None:
    """Unless one of them replaces the other, or they are named for different functions."""
    patches = [
        module("klp_one", patch=patch(one)),
        module("klp_other", patch=patch(other, replace=replaces)),
    ]
    if not conflict:
        check_together(patches)
        return
    with pytest.raises(UsageError, match=r"conflict: both patch f\(\) of vmlinux"):
        check_together(patches)


def test_one_module_named_twice_conflicts() -> None:
    with pytest.raises(UsageError, match="named twice"):
        check_together([module(), module()])


def test_a_target_in_the_place_of_an_older_patch_is_refused() -> None:
    module = MODULES / "klp_test_cmdline_a.ko"
    target = next(path for path in MODULES.glob("klp_target_*.ko"))
    with pytest.raises(UsageError, match="is not a livepatch"):
        read_case(VerifyRequest(module=module, replaces=(target,)), KERNEL, {})


def test_a_missing_script_is_refused(tmp_path: Path) -> None:
    module = MODULES / "klp_test_cmdline_a.ko"
    with pytest.raises(UsageError, match="no check script"):
        read_case(VerifyRequest(module=module, check=tmp_path / "none.sh"), KERNEL, {})


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


def test_the_page_is_one_file_and_escapes() -> None:
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
