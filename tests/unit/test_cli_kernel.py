# SPDX-License-Identifier: GPL-2.0-only
"""`kernel build`: which kernels it is asked for, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import harness.tools.kernel.command as command
from harness.cli.app import app

if TYPE_CHECKING:
    from harness.cli.options import KernelOptions


@pytest.mark.parametrize(
    ("words", "specs"),
    [
        ([], ["6.1"]),
        (["6.12"], ["6.12"]),
        (["5.10", "newest"], ["5.10", "newest"]),
        (["--kernel", "6.12"], ["6.12"]),
        (["5.10", "--kernel", "6.12", "--kernel", "newest"], ["5.10", "6.12", "newest"]),
    ],
)
def test_build_takes_several(
    words: list[str], specs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels are built in the order in which they are named, as arguments and by --kernel."""
    asked: list[str] = []

    def prepare(_invocation: Any, wanted: KernelOptions) -> Any:
        asked.append(wanted.spec)
        return SimpleNamespace(
            version="1", digest="d", image="i", describe=lambda: f"kernel of {wanted.spec}"
        )

    monkeypatch.setattr(command, "prepare_kernel", prepare)
    ran = CliRunner().invoke(app, ["kernel", "build", *words], prog_name="klp-harness")
    assert ran.exit_code == 0, ran.output
    assert asked == specs
    assert [line for line in ran.output.splitlines() if line.startswith("version")] == [
        f"version  kernel of {spec}" for spec in specs
    ]
