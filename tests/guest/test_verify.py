# SPDX-License-Identifier: GPL-2.0-only
"""verify in guests: how check scripts and test files run. Patches are judged in tests/corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.tools.verify import CheckOutcome, Code, VerifyRequest, verify_patch
from tests.corpus.cases import MODULES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.pytest_plugin.fixtures import BuildModule
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

PATCH = "klp_test_cmdline_a"


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "check.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    return path


@pytest.mark.slow(7)
def test_a_script_that_hangs_before_the_patch(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """A script that hangs before the patch is loaded is a usage error, and no verdict."""
    request = VerifyRequest(
        module=sample_modules[PATCH],
        check=script(tmp_path, "exec sleep 1000"),
        check_timeout_s=1,
        scenes=("idle",),
    )
    with pytest.raises(UsageError, match=r"check\.sh hangs before the patch is loaded"):
        verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)


@pytest.mark.slow(7)
def test_a_script_that_hangs_with_the_patch(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """A script that hangs once the patch is loaded is a failed check of the patch."""
    request = VerifyRequest(
        module=sample_modules[PATCH],
        check=script(tmp_path, '[ "$1" = before ] || exec sleep 1000'),
        check_timeout_s=1,
        scenes=("idle",),
    )
    verdict = verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)
    assert verdict.codes == {Code.CHECK_HUNG}
    assert verdict.check("redirected").outcome is CheckOutcome.PASSED
    assert verdict.check("disable").outcome is CheckOutcome.NOT_RUN


@pytest.mark.slow(17)
def test_a_script_that_leaves_a_child(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """It is judged by its exit code; the child, which has its output open, is named and ended."""
    request = VerifyRequest(
        module=sample_modules[PATCH],
        check=script(tmp_path, "setsid sleep 1000 & exit 0"),
        scenes=("idle",),
    )
    verdict = verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)
    assert not verdict.failed
    check = verdict.check("check-during")
    assert (check.outcome, check.code) == (CheckOutcome.WARNED, Code.CHECK_LEFT)
    assert "sleep (" in check.detail
    assert "never ran the new body of cmdline_proc_show()" in check.detail
    counted = {(each.during, each.old, each.new) for each in verdict.executed}
    assert counted == {
        ("check-before", 0, None),
        ("check-during", None, 0),
        ("check-after", 0, None),
    }


@pytest.mark.slow(45)
def test_a_function_that_nothing_calls(
    kernel: Kernel,
    klp_session: Session,
    sample_modules: Mapping[str, Path],
    build_module: BuildModule,
) -> None:
    """A new body that was never called is named: it was not exercised."""
    modules = build_module(MODULES)
    request = VerifyRequest(
        module=modules["good_module"],
        targets=(modules["corpus_target"],),
        scenes=("cycles",),
        cycles=6,
    )
    verdict = verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)
    check = verdict.check("calls")
    assert (check.outcome, check.code) == (CheckOutcome.WARNED, Code.NOT_EXERCISED)
    assert "corpus_limit()" in check.detail


TESTS = """
def test_the_command_line(guest, moment):
    patched = "live patched" in guest.read("/proc/cmdline")
    assert patched == (moment != "before"), f"{moment}: {patched}"
    assert guest.run(["cat", "/proc/cmdline"]).ok


def test_the_patch_is_there(livepatch, tasks, moment, tmp_path):
    if moment == "during":
        assert livepatch.patch("klp_test_cmdline_a").enabled
    sent = tmp_path / "sent"
    sent.write_text("from the host")
    assert livepatch.guest.read(livepatch.guest.upload(sent)) == "from the host"
    assert tasks.find("init")
"""


@pytest.mark.slow(17)
def test_a_test_file_reaches_the_guest(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """Its tests run on the host, before, during and after; a failure is shown in its words."""
    path = tmp_path / "behaves.py"
    path.write_text(TESTS)
    request = VerifyRequest(module=sample_modules[PATCH], check=path, scenes=("idle",))
    verdict = verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)
    assert {check.id: check.detail for check in verdict.failed} == {
        "check-after": "behaves.py after failed: test_the_command_line: after: False"
    }, verdict.failed
    assert verdict.check("check-before").outcome is CheckOutcome.PASSED
    assert verdict.check("check-during").outcome is CheckOutcome.PASSED
