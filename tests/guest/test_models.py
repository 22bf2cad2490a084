# SPDX-License-Identifier: GPL-2.0-only
"""models compare on two models whose kernels exist, with the one measure that both must pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cli.child_commands import ChildCommands, Command, Lane
from harness.deadline import Deadline
from harness.report.base import CheckOutcome
from harness.tools.models.results import ModelsCompareReport

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.kernel.kernel import Kernel

_RUN_S = 1800.0


@pytest.mark.slow(15)
def test_null_mixes_what_linux_keeps_apart(
    kernel: Kernel, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """The same calls during the same loads: mixed pairs on null, none on Linux.

    On both a task runs the new function while another is inside the old one.
    """
    if not kernel.version.startswith("6.1."):
        pytest.skip("the model null is written for 6.1")
    page = tmp_path / "models.html"
    words = ("linux", "null", "--measure", "consistency", "--html", str(page))
    options = (f"--kernel={kernel.spec}", f"--accel={pytestconfig.getoption('accel')}")
    with ChildCommands(tmp_path, runs=1, deadline=Deadline.after(_RUN_S)) as commands:
        done = commands.run(
            Command(
                lane=Lane.RUN, name="compare", arguments=("models", "compare", *words, *options)
            )
        )
    assert done.code == 0, done.last_lines()
    assert isinstance(done.report, ModelsCompareReport)
    found = {(result.row, result.model): result for result in done.report.results}
    assert {result.outcome for result in found.values()} == {CheckOutcome.PASSED}
    assert found["both", "linux"].says == found["both", "null"].says == "yes"
    assert found["mixed", "linux"].values == (0,)
    assert found["mixed", "null"].median
    assert "mixed pairs" in page.read_text()
