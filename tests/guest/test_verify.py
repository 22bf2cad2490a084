# SPDX-License-Identifier: GPL-2.0-only
"""verify in guests: whose fault a check script is. tests/corpus judges patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.tools.verify import CheckResult, Code, VerifyRequest, verify_patch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

PATCH = "klp_test_cmdline_a"


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "check.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    return path


def test_a_script_that_does_not_hold_before_the_patch_is_the_users_fault(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """One that hangs before the patch is loaded: a usage error in a sentence, and no verdict."""
    request = VerifyRequest(
        module=sample_modules[PATCH],
        check=script(tmp_path, "exec sleep 1000"),
        check_timeout_s=1,
        scenes=("idle",),
    )
    with pytest.raises(UsageError, match=r"check\.sh hangs before the patch is loaded"):
        verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)


def test_a_script_that_hangs_with_the_patch_is_the_patchs_fault(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """The same once the patch is there: a check of the patch that failed."""
    request = VerifyRequest(
        module=sample_modules[PATCH],
        check=script(tmp_path, '[ "$1" = before ] || exec sleep 1000'),
        check_timeout_s=1,
        scenes=("idle",),
    )
    verdict = verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)
    assert verdict.codes == {Code.CHECK_HUNG}
    assert verdict.check("redirected").outcome is CheckResult.PASSED
    assert verdict.check("disable").outcome is CheckResult.NOT_RUN


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


def test_a_test_file_reaches_the_guest(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """Its tests run on the host, before, during and after; one that fails tells in its words."""
    path = tmp_path / "behaves.py"
    path.write_text(TESTS)
    request = VerifyRequest(module=sample_modules[PATCH], check=path, scenes=("idle",))
    verdict = verify_patch(request, kernel=kernel, session=klp_session, samples=sample_modules)
    assert [check.id for check in verdict.failed] == ["check-after"]
    assert verdict.check("check-before").outcome is CheckResult.PASSED
    assert verdict.check("check-during").outcome is CheckResult.PASSED
    assert verdict.check("check-after").detail == (
        "behaves.py after failed: test_the_command_line: after: False"
    )
