# SPDX-License-Identifier: GPL-2.0-only
"""What this machine can do for the harness, and what it lacks: pure data, for `doctor` to show."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness import __version__
from harness.errors import CommandFailed, HarnessError, MissingTool
from harness.resources import cache_root
from harness.vm.host.accel import QEMU, Accel, AccelChoice, choose_accel
from harness.vm.host.capacity import HostCapacity, default_guests, measure_host
from harness.vm.host.lookup import program_version
from harness.vm.host.process import run
from harness.vm.host.tools import (
    Distribution,
    Family,
    ToolState,
    examine_tools,
    install_command,
    read_distribution,
)

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline

OLDEST_QEMU = (7, 2)
OLDEST_PYTHON = (3, 11)

_SPACE_FAILED_MIB = 6 * 1024  # a kernel's source and build, unpacked
_SPACE_WARNED_MIB = 20 * 1024
_MEMORY_FAILED_MIB = 1024
_MEMORY_WARNED_MIB = 3 * 1024
_MIB = 1 << 20


class Health(StrEnum):
    """How one thing stands: fine, fine with a limit that is worth knowing, or in the way."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at. ``hint`` says how to get what is missing; ``seconds`` what it took."""

    id: str
    outcome: Health
    detail: str
    hint: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """All findings about this host; ``accel`` is None when no guest can run at all."""

    harness: str
    distribution: Distribution
    kernel: str
    machine: str
    python: str
    capacity: HostCapacity
    accel: AccelChoice | None
    guests: int | None
    cache: Path
    cache_mib: int
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether nothing is in the way of a run."""
        return all(finding.outcome is not Health.FAILED for finding in self.findings)


def examine(deadline: Deadline, *, requested_accel: str = "auto") -> DoctorReport:
    """Look at everything that a run needs. What fails is a finding; nothing is raised for it.

    Raises UsageError for an unknown accelerator.
    """
    start = time.monotonic()
    distribution = read_distribution()
    capacity = measure_host()
    cache = cache_root()
    accel, accel_finding = _examine_accel(requested_accel, deadline)
    tools = examine_tools(distribution)
    guests = default_guests(capacity, accel.accel) if accel is not None else None
    cache_mib = folder_size_mib(cache)
    findings = (
        judge_machine(platform.machine()),
        judge_python(sys.version_info[:3]),
        judge_memory(capacity),
        judge_space(cache, free_mib(cache)),
        accel_finding,
        judge_qemu(program_version(QEMU)),
        *(judge_tool(state, distribution) for state in tools),
        _examine_archive(distribution, deadline),
    )
    return DoctorReport(
        harness=__version__,
        distribution=distribution,
        kernel=platform.release(),
        machine=platform.machine(),
        python=platform.python_version(),
        capacity=capacity,
        accel=accel,
        guests=guests,
        cache=cache,
        cache_mib=cache_mib,
        findings=findings,
        seconds=time.monotonic() - start,
    )


def judge_machine(machine: str) -> Finding:
    """Judge the host's architecture: kernels are built for x86_64 without a cross compiler."""
    if machine == "x86_64":
        return Finding(id="machine", outcome=Health.PASSED, detail=machine)
    return Finding(
        id="machine",
        outcome=Health.FAILED,
        detail=f"{machine}: kernels and guest programs are built for x86_64 with the host's gcc",
        hint="run klp-harness on an x86_64 host",
    )


def judge_python(version: tuple[int, ...]) -> Finding:
    """Judge the interpreter's version."""
    shown = ".".join(str(number) for number in version)
    if version >= OLDEST_PYTHON:
        return Finding(id="python", outcome=Health.PASSED, detail=f"{shown} ({sys.executable})")
    return Finding(
        id="python",
        outcome=Health.FAILED,
        detail=f"{shown} is too old",
        hint=f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or later",
    )


def judge_qemu(version: str | None) -> Finding:
    """Judge QEMU's version; None when it is not there or does not tell."""
    oldest = ".".join(map(str, OLDEST_QEMU))
    if version is None:
        return Finding(
            id="qemu version",
            outcome=Health.FAILED,
            detail=f"{QEMU} does not tell its version",
            hint=f"install QEMU {oldest} or later",
        )
    if tuple(int(number) for number in version.split(".")[:2]) >= OLDEST_QEMU:
        return Finding(id="qemu version", outcome=Health.PASSED, detail=version)
    return Finding(
        id="qemu version",
        outcome=Health.FAILED,
        detail=f"{version} is too old",
        hint=f"install QEMU {oldest} or later",
    )


def judge_memory(capacity: HostCapacity) -> Finding:
    """Judge the memory that is free now, which bounds the number of guests."""
    available = capacity.memory_available_mib
    detail = (
        f"{available} MiB free of {capacity.memory_mib} MiB, "
        f"{capacity.cores:g} {'core' if capacity.cores == 1 else 'cores'}"
    )
    if available < _MEMORY_FAILED_MIB:
        hint = f"a guest and a kernel build need {_MEMORY_FAILED_MIB} MiB"
        return Finding(id="memory", outcome=Health.FAILED, detail=detail, hint=hint)
    if available < _MEMORY_WARNED_MIB:
        hint = "fewer guests run at a time than the cores could take"
        return Finding(id="memory", outcome=Health.WARNED, detail=detail, hint=hint)
    return Finding(id="memory", outcome=Health.PASSED, detail=detail)


def judge_space(cache: Path, free: int) -> Finding:
    """Judge the free space, in MiB, of the file system that holds the cache."""
    detail = f"{free} MiB free at {cache}"
    hint = "`klp-harness kernel prune` frees space; KLP_HARNESS_CACHE names another folder"
    if free < _SPACE_FAILED_MIB:
        return Finding(id="disk space", outcome=Health.FAILED, detail=detail, hint=hint)
    if free < _SPACE_WARNED_MIB:
        return Finding(id="disk space", outcome=Health.WARNED, detail=detail, hint=hint)
    return Finding(id="disk space", outcome=Health.PASSED, detail=detail)


def judge_tool(state: ToolState, distribution: Distribution) -> Finding:
    """Judge one tool: a required one that is missing is in the way."""
    tool = state.tool
    identifier = f"tool {tool.name}"
    if state.found is not None:
        return Finding(id=identifier, outcome=Health.PASSED, detail=state.found)
    command = install_command((tool,), distribution)
    return Finding(
        id=identifier,
        outcome=Health.WARNED if tool.optional else Health.FAILED,
        detail=f"missing: {tool.purpose}",
        hint=f"as root: {command}" if command is not None else f"install {tool.name}",
    )


def judge_archive(index_targets: str) -> Finding:
    """Judge what `apt-get indextargets` prints: is there an archive to take kernels from?"""
    sites = len(set(index_targets.split()))
    if sites:
        plural = "archive" if sites == 1 else "archives"
        return Finding(id="apt sources", outcome=Health.PASSED, detail=f"{sites} {plural} known")
    return Finding(
        id="apt sources",
        outcome=Health.WARNED,
        detail="apt knows no archive: kernels cannot be fetched by their series",
        hint="give a source tree, a tarball or a URL as the kernel, or set apt's sources up",
    )


def free_mib(folder: Path) -> int:
    """Return the free space where a folder is, or would be made, in MiB."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free // _MIB


def folder_size_mib(folder: Path) -> int:
    """Return what the files below a folder take on disk, in MiB; 0 when it is not there."""
    total = 0
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            # It went while we looked, or is another user's: what is left is still an answer.
            continue
    return total // _MIB


def _examine_accel(requested: str, deadline: Deadline) -> tuple[AccelChoice | None, Finding]:
    try:
        choice = choose_accel(requested, deadline)
    except HarnessError as error:
        return None, Finding(
            id="accelerator", outcome=Health.FAILED, detail=error.message, hint=error.hint
        )
    fell_back = choice.accel is Accel.TCG and requested == "auto"
    return choice, Finding(
        id="accelerator",
        outcome=Health.WARNED if fell_back else Health.PASSED,
        detail=f"{choice.accel.value}: {choice.reason}",
        hint="guests run translated: slower, and otherwise the same" if fell_back else None,
        seconds=0.0 if choice.cached else choice.probed_s,
    )


def _examine_archive(distribution: Distribution, deadline: Deadline) -> Finding:
    if distribution.family is not Family.DEBIAN:
        return Finding(
            id="apt sources",
            outcome=Health.WARNED,
            detail=f"{distribution.name} has no apt: kernels cannot be fetched by their series",
            hint="give a source tree, a tarball or a URL as the kernel",
        )
    start = time.monotonic()
    try:
        done = run(
            ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"],
            deadline=deadline,
        )
        listed = done.stdout
    except (MissingTool, CommandFailed):
        listed = ""
    finding = judge_archive(listed)
    return Finding(
        id=finding.id,
        outcome=finding.outcome,
        detail=finding.detail,
        hint=finding.hint,
        seconds=time.monotonic() - start,
    )
