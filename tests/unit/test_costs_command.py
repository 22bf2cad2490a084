# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness costs: what it refuses, what the machine lacks, what is kept of a failed run."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import harness.cli.invocation as program
import harness.tools.costs.command as command
from harness.cli.app import app
from harness.errors import ExitCode, GuestStarved, HarnessError, MissingTool, UsageError
from harness.tools.costs.points import find_points
from harness.tools.costs.run import labels
from harness.vm.host.accel import Accel, AccelChoice
from tests.unit.test_costs import RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.observer.cost_results import CostResult


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command without a kernel to build: the list has what was built."""
    built: list[str] = []

    def prepare(*_: object) -> None:
        built.append("a kernel")
        raise HarnessError("no kernel in this test")

    monkeypatch.setattr(command, "prepare_kernel", prepare)
    monkeypatch.setattr(command, "obtain_plugin", lambda *_, **__: None)
    tcg = AccelChoice(accel=Accel.TCG, reason="asked for")
    monkeypatch.setattr(command, "prepare_accel", lambda *_: tcg)
    return built


def run_costs(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["costs", *words])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--sleepers", "5001"), "--sleepers takes 0 to 5000"),
        (("--functions", "0"), "--functions takes 1 to 400"),
        (("--html", "/nowhere/costs.html"), "/nowhere"),
    ],
)
def test_sizes_that_cannot_be(kernels: list[str], words: tuple[str, ...], says: str) -> None:
    """What cannot be measured, or written, is refused before a kernel is built."""
    code, text = run_costs(*words)
    assert (code, kernels) == (ExitCode.USAGE, [])
    assert says in text


def test_kvm_is_refused(kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """KVM has no plugins of QEMU: who asks for it is told what to add."""
    kvm = AccelChoice(accel=Accel.KVM, reason="it works")
    monkeypatch.setattr(command, "prepare_accel", lambda *_: kvm)
    code, text = run_costs("--accel", "kvm")
    assert (code, kernels) == (ExitCode.USAGE, [])
    assert "KVM has no plugins" in text
    assert "hint: add --accel tcg" in text


@pytest.mark.parametrize(
    "error",
    [
        MissingTool("gcc is not installed"),
        HarnessError("this QEMU cannot load the plugin that observes the kernel: no plugins"),
    ],
)
def test_a_machine_that_cannot_observe(
    kernels: list[str], monkeypatch: pytest.MonkeyPatch, error: HarnessError
) -> None:
    """Without gcc, or with a QEMU without plugins, one sentence says so at once."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(command, "obtain_plugin", refuse)
    code, text = run_costs()
    assert (code, kernels) == (ExitCode.HARNESS, [])
    assert f"error: {error.message}" in text


def test_a_kernel_without_symbols() -> None:
    """A packaged kernel without its symbols cannot be observed, which is said."""
    kernel = SimpleNamespace(vmlinux=None, describe=lambda: "6.1.0-cloud")
    with pytest.raises(UsageError, match=r"6\.1\.0-cloud comes without its symbols"):
        find_points(kernel)  # type: ignore[arg-type]


def known(version: str, digest: str) -> SimpleNamespace:
    facts = {"spec": version, "config_digest": "c", "compiler": "gcc", "source": "s"}
    return SimpleNamespace(version=version, digest=digest, describe=lambda: version, **facts)


def test_kernels_of_one_version_have_names_of_their_own() -> None:
    """Two builds of one version are two columns, and not one that hides the other."""
    kernels = [known("6.1.192", "0123456789"), known("7.2.13", "b"), known("6.1.192", "abcdefghij")]
    names = ["6.1.192 01234567", "7.2.13", "6.1.192 abcdefgh"]
    assert labels(kernels) == names  # type: ignore[arg-type]


def test_one_kernel_that_fails_does_not_hide_the_others(
    kernels: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was measured is kept, and the exit code is that of the kernel that was not."""

    def measure(_: object, __: object, ___: object, name: str) -> Iterator[CostResult]:
        yield from (each for each in RESULTS if each.kernel == name)
        if name == "6.1.192":
            raise GuestStarved("the guest could not run")

    made = iter([known("6.1.192", "a"), known("7.2.13", "b")])
    for name, stand_in in (
        ("prepare_kernel", lambda invocation, _: invocation.kernels.append(next(made))),
        ("prepare_modules", lambda *_: {}),
        ("prepare", lambda kernel, _: SimpleNamespace(kernel=kernel)),
        ("measure", measure),
    ):
        monkeypatch.setattr(command, name, stand_in)
    monkeypatch.setattr(program, "program_version", lambda _: "7.2")
    file = tmp_path / "costs.json"
    code, text = run_costs("--kernel", "6.1", "--kernel", "newest", "--json", str(file))
    assert code == ExitCode.HARNESS
    assert "error: the guest could not run" in text
    report = json.loads(file.read_text())
    assert report["partial"] is True
    assert {result["kernel"] for result in report["results"]} == {"6.1.192", "7.2.13"}
