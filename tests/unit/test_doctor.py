# SPDX-License-Identifier: GPL-2.0-only
"""What doctor finds, and how it judges it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError, MissingTool
from harness.report.base import CheckOutcome
from harness.tools.doctor import examine as doctor
from harness.tools.doctor.examine import (
    examine,
    free_mib,
    judge_archive,
    judge_machine,
    judge_memory,
    judge_python,
    judge_qemu,
    judge_space,
    judge_tool,
)
from harness.vm.host.accel import Accel, AccelChoice
from harness.vm.host.capacity import HostCapacity
from harness.vm.host.tools import TOOLS, Distribution, Family, ToolState

if TYPE_CHECKING:
    from harness.tools.doctor.results import DoctorResult

DEBIAN = Distribution(name="Debian 12", family=Family.DEBIAN)


def capacity(available: int) -> HostCapacity:
    return HostCapacity(cores=2, memory_mib=24_000, memory_available_mib=available)


def state(name: str, found: str | None) -> ToolState:
    return ToolState(tool=next(tool for tool in TOOLS if tool.name == name), found=found)


@pytest.mark.parametrize(
    ("judged", "outcome"),
    [
        (judge_qemu("7.2.22"), "passed"),
        (judge_qemu("10.0.1"), "passed"),
        (judge_qemu("7.1.9"), "failed"),
        (judge_qemu(None), "failed"),
        (judge_python((3, 11, 0)), "passed"),
        (judge_python((4, 0, 0)), "passed"),
        (judge_python((3, 10, 9)), "failed"),
        (judge_memory(capacity(9000)), "passed"),
        (judge_memory(capacity(2000)), "warned"),
        (judge_memory(capacity(500)), "failed"),
        (judge_space(Path("/cache"), 50_000), "passed"),
        (judge_space(Path("/cache"), 10_000), "warned"),
        (judge_space(Path("/cache"), 100), "failed"),
        (judge_machine("x86_64"), "passed"),
        (judge_machine("aarch64"), "failed"),
    ],
)
def test_what_is_enough(judged: DoctorResult, outcome: str) -> None:
    """Too little for a run fails, a limit that is worth knowing warns; both say what to do."""
    assert judged.outcome == outcome
    assert (judged.hint is None) == (outcome == "passed")


def test_missing_tool_fails_and_names_the_package() -> None:
    """The hint is the command that installs it on this distribution."""
    finding = judge_tool(state("gelf.h", None), DEBIAN)
    assert finding.outcome is CheckOutcome.FAILED
    assert finding.hint == "as root: apt-get install libelf-dev"


def test_missing_optional_tool_warns() -> None:
    """A run does without it."""
    assert judge_tool(state("ccache", None), DEBIAN).outcome is CheckOutcome.WARNED


def test_found_tool_tells_where() -> None:
    """Of several installations the one in use is shown."""
    finding = judge_tool(state("bc", "/usr/bin/bc"), DEBIAN)
    assert (finding.outcome, finding.detail) == (CheckOutcome.PASSED, "/usr/bin/bc")


def test_apt_without_an_archive_warns() -> None:
    """Kernels can still be given as trees and tarballs."""
    assert judge_archive("").outcome is CheckOutcome.WARNED
    assert judge_archive("http://one\nhttp://one\n").detail == "1 archive known"


def test_space_of_a_folder_not_yet_made(tmp_path: Path) -> None:
    """The cache is made by the first build; its file system is known before."""
    assert free_mib(tmp_path / "not" / "yet") > 0


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(tmp_path))
    fell_back = AccelChoice(accel=Accel.TCG, reason="KVM cannot be used: it hung", probed_s=0.2)
    monkeypatch.setattr(doctor, "choose_accel", lambda requested, deadline: fell_back)


@pytest.mark.usefixtures("fast")
def test_fall_back_is_a_warning_that_says_why() -> None:
    """TCG instead of KVM is slow, and works."""
    report = examine(Deadline.after(60))
    (finding,) = [found for found in report.results if found.id == "accelerator"]
    assert finding.outcome is CheckOutcome.WARNED
    assert finding.detail == "tcg: KVM cannot be used: it hung"
    assert report.guests is not None


@pytest.mark.usefixtures("fast")
def test_every_tool_and_every_subject_is_reported_once() -> None:
    """Results are told apart by their ids."""
    report = examine(Deadline.after(60))
    names = [finding.id for finding in report.results]
    assert len(names) == len(set(names))
    assert {"machine", "python", "memory", "disk space", "accelerator", "apt sources"} < set(names)
    asked_for = [tool for tool in TOOLS if tool.applies_to(report.distribution)]
    assert {f"tool {tool.name}" for tool in asked_for} < set(names)


@pytest.mark.parametrize("error", [MissingTool("no QEMU"), HarnessError("KVM asked for")])
@pytest.mark.usefixtures("fast")
def test_no_accelerator_is_a_finding_and_not_an_end(
    error: HarnessError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is still examined, and the machine is not ready."""

    def fail(requested: str, deadline: Deadline) -> AccelChoice:
        raise error

    monkeypatch.setattr(doctor, "choose_accel", fail)
    report = examine(Deadline.after(60))
    assert report.accel is None
    assert report.guests is None
    assert not report.is_ready
