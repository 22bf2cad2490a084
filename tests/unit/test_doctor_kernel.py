# SPDX-License-Identifier: GPL-2.0-only
"""What doctor shows of a finished kernel, before anybody runs a livepatch on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.tools.doctor.kernel_parts import examine_kernel, require_finished_spec
from tests.unit.finished_kernels import debian_root, system_map

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress


def test_the_parts_of_a_kernel(
    tmp_path: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """Each part once; what cannot be judged without symbols is a warning that says so."""
    root = debian_root(tmp_path / "system", "6.6.6")
    spec = str(root / "boot/vmlinuz-6.6.6")
    found = examine_kernel(spec, store=store, deadline=soon, progress=recorder)
    assert {each.id: each.outcome for each in found} == {
        "kernel": CheckOutcome.PASSED,
        "kernel headers": CheckOutcome.PASSED,
        "kernel drivers": CheckOutcome.PASSED,
        "kernel symbols": CheckOutcome.WARNED,
        "kernel modules": CheckOutcome.PASSED,
    }
    (root / "boot/System.map-6.6.6").write_text(system_map("f"))
    found = examine_kernel(spec, store=store, deadline=soon, progress=recorder)
    assert "list of its symbols" in next(e.detail for e in found if e.id == "kernel symbols")


def test_a_kernel_that_cannot_be_used(
    tmp_path: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """It is one line with the reason, beside what else doctor found."""
    root = debian_root(tmp_path / "system", "6.6.6", config="CONFIG_64BIT=y\n")
    (result,) = examine_kernel(
        str(root / "boot/vmlinuz-6.6.6"), store=store, deadline=soon, progress=recorder
    )
    assert result.outcome is CheckOutcome.FAILED
    assert "it is built without" in result.detail
    assert result.hint


@pytest.mark.parametrize("spec", ["6.1", "newest", "."])
def test_sources_are_not_built_for_doctor(spec: str) -> None:
    """It takes seconds, and a build takes minutes."""
    with pytest.raises(UsageError, match="names sources"):
        require_finished_spec(spec)
