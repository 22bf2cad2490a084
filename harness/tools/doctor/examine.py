# SPDX-License-Identifier: GPL-2.0-only
"""What this machine can do for the harness, and what it lacks, as results."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import CommandFailed, HarnessError, KlpError, MissingTool
from harness.report.base import CheckOutcome
from harness.resources import cache_root, runs_root
from harness.tools.doctor.results import DoctorResult
from harness.vm.guest.kept import kept_guests, left_behind
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
    from collections.abc import Callable, Iterator

    from harness.deadline import Deadline

OLDEST_QEMU = (7, 2)
OLDEST_PYTHON = (3, 11)

_SPACE_FAILED_MIB = 6 * 1024  # a kernel's source and build, unpacked
_SPACE_WARNED_MIB = 20 * 1024
_MEMORY_FAILED_MIB = 1024
_MEMORY_WARNED_MIB = 3 * 1024
_MIB = 1 << 20
_PASSED, _WARNED, _FAILED = CheckOutcome.PASSED, CheckOutcome.WARNED, CheckOutcome.FAILED


@dataclass(frozen=True, kw_only=True)
class Examined:
    """The results of `examine`; ``accel`` and ``guests`` are None when no guest can run at all."""

    distribution: Distribution
    accel: AccelChoice | None
    guests: int | None
    results: tuple[DoctorResult, ...]

    @property
    def is_ready(self) -> bool:
        """Whether nothing that a run needs is missing."""
        return all(result.outcome is not _FAILED for result in self.results)


def examine(deadline: Deadline, *, requested_accel: str = "auto") -> Examined:
    """Look at everything that a run needs. What is missing is a result; nothing is raised for it.

    Raises UsageError for an unknown accelerator.
    """
    distribution = read_distribution()
    capacity = measure_host()
    accel, accel_result = _examine_accel(requested_accel, deadline)
    results = (
        judge_machine(platform.machine()),
        judge_python(sys.version_info[:3]),
        judge_memory(capacity),
        *_examine_folders(),
        *_examine_kept(),
        accel_result,
        judge_qemu(program_version(QEMU)),
        *(judge_tool(state, distribution) for state in examine_tools(distribution)),
        _examine_archive(distribution, deadline),
        _examine_observer(accel, deadline),
    )
    return Examined(
        distribution=distribution,
        accel=accel,
        guests=default_guests(capacity, accel.accel) if accel is not None else None,
        results=results,
    )


def judge_machine(machine: str) -> DoctorResult:
    """Judge the host's architecture: kernels are built for x86_64 without a cross compiler."""
    if machine == "x86_64":
        return _result("machine", _PASSED, machine)
    return _result(
        "machine",
        _FAILED,
        f"{machine}: kernels and guest programs are built for x86_64 with the host's gcc",
        "run klp-harness on an x86_64 host",
    )


def judge_python(version: tuple[int, ...]) -> DoctorResult:
    """Judge the interpreter's version."""
    if version >= OLDEST_PYTHON:
        return _result("python", _PASSED, f"{_dotted(version)} ({sys.executable})")
    hint = f"install Python {_dotted(OLDEST_PYTHON)} or later"
    return _result("python", _FAILED, f"{_dotted(version)} is too old", hint)


def judge_qemu(version: str | None) -> DoctorResult:
    """Judge QEMU's version; None when there is no QEMU, or it prints no version."""
    hint = f"install QEMU {_dotted(OLDEST_QEMU)} or later"
    if version is None:
        return _result("qemu version", _FAILED, f"{QEMU} prints no version", hint)
    if tuple(int(number) for number in version.split(".")[:2]) < OLDEST_QEMU:
        return _result("qemu version", _FAILED, f"{version} is too old", hint)
    return _result("qemu version", _PASSED, version)


def judge_memory(capacity: HostCapacity) -> DoctorResult:
    """Judge the memory that is free now, which bounds the number of guests."""
    available = capacity.memory_available_mib
    detail = (
        f"{available} MiB free of {capacity.memory_mib} MiB, "
        f"{capacity.cores:g} {'core' if capacity.cores == 1 else 'cores'}"
    )
    if available < _MEMORY_FAILED_MIB:
        hint = f"a guest and a kernel build need {_MEMORY_FAILED_MIB} MiB"
        return _result("memory", _FAILED, detail, hint)
    if available < _MEMORY_WARNED_MIB:
        hint = "fewer guests run at a time than the cores could take"
        return _result("memory", _WARNED, detail, hint)
    return _result("memory", _PASSED, detail)


def judge_space(cache: Path, free: int) -> DoctorResult:
    """Judge the free space, in MiB, of the file system that holds the cache."""
    detail = f"{free} MiB free at {cache}"
    if free >= _SPACE_WARNED_MIB:
        return _result("disk space", _PASSED, detail)
    hint = "`klp-harness kernel prune` frees space; KLP_HARNESS_CACHE names another folder"
    return _result("disk space", _FAILED if free < _SPACE_FAILED_MIB else _WARNED, detail, hint)


def judge_tool(state: ToolState, distribution: Distribution) -> DoctorResult:
    """Judge one tool: a run fails without a required one."""
    tool = state.tool
    if state.found is not None:
        return _result(f"tool {tool.name}", _PASSED, state.found)
    command = install_command((tool,), distribution)
    return _result(
        f"tool {tool.name}",
        _WARNED if tool.optional else _FAILED,
        f"missing: {tool.purpose}",
        f"as root: {command}" if command is not None else f"install {tool.name}",
    )


def judge_archive(index_targets: str) -> DoctorResult:
    """Judge what `apt-get indextargets` prints: is there an archive to take kernels from?"""
    sites = len(set(index_targets.split()))
    if sites:
        plural = "archive" if sites == 1 else "archives"
        return _result("apt sources", _PASSED, f"{sites} {plural} known")
    return _result(
        "apt sources",
        _WARNED,
        "apt knows no archive: kernels cannot be fetched by their series",
        "give a source tree, a tarball or a URL as the kernel, or set apt's sources up",
    )


def free_mib(folder: Path) -> int:
    """Return the free space where a folder is, or would be made, in MiB."""
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free // _MIB
        except OSError:
            continue  # it is not there, or closed to this user
    return 0


def judge_folder(name: str, find: Callable[[], Path], hint: str) -> DoctorResult:
    """Judge a folder by making it and writing to it; ``find`` returns it, or raises UsageError."""
    try:
        folder = find()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".klp-doctor-") as file:
            file.write(b"x")
            file.flush()
    except KlpError as error:
        return _result(name, _FAILED, error.message, error.hint)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = getattr(error, "filename", None)
        detail = f"cannot be written{f' ({where})' if where else ''}: {reason}"
        return _result(name, _FAILED, detail, hint)
    return _result(name, _PASSED, f"{folder} can be written")


def _examine_folders() -> Iterator[DoctorResult]:
    other = "{} names another folder for it".format
    yield (cache := judge_folder("cache", cache_root, other("KLP_HARNESS_CACHE")))
    yield judge_folder("runs", runs_root, other("KLP_HARNESS_RUNS"))
    yield judge_folder(
        "temporary files",
        lambda: Path(tempfile.gettempdir()),
        "set TMPDIR to a folder that this user can write to",
    )
    if cache.outcome is _PASSED:
        yield judge_space(cache_root(), free_mib(cache_root()))


def _examine_kept() -> Iterator[DoctorResult]:
    """Name the guests that are kept, and what an owner that was killed has left of one."""
    try:
        kept, left = kept_guests(), left_behind()
    except KlpError:
        # The folder of the runs cannot be used, which has a result of its own.
        return
    for guest in kept:
        yield DoctorResult(
            id=f"guest {guest.name}",
            outcome=_PASSED,
            seconds=0.0,
            detail=f"kept by process {guest.owner}, {guest.memory_mib} MiB",
        )
    for guest in left:
        yield DoctorResult(
            id=f"guest {guest.name}",
            outcome=_WARNED,
            seconds=0.0,
            detail=f"process {guest.owner}, which kept it, is gone, and so is the guest",
            hint=f"the next run removes {guest.folder}",
        )


def _examine_accel(requested: str, deadline: Deadline) -> tuple[AccelChoice | None, DoctorResult]:
    try:
        choice = choose_accel(requested, deadline)
    except HarnessError as error:
        return None, _result("accelerator", _FAILED, error.message, error.hint)
    fell_back = choice.accel is Accel.TCG and requested == "auto"
    return choice, _result(
        "accelerator",
        _WARNED if fell_back else _PASSED,
        f"{choice.accel.value}: {choice.reason}",
        "guests run translated: slower, and otherwise the same" if fell_back else None,
        seconds=0.0 if choice.cached else choice.probed_s,
    )


def _examine_archive(distribution: Distribution, deadline: Deadline) -> DoctorResult:
    if distribution.family is not Family.DEBIAN:
        return _result(
            "apt sources",
            _WARNED,
            f"{distribution.name} has no apt: kernels cannot be fetched by their series",
            "give a source tree, a tarball or a URL as the kernel",
        )
    start_s = time.monotonic()
    argv = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    try:
        listed = run(argv, deadline=deadline).stdout
    except (MissingTool, CommandFailed):
        listed = ""
    return judge_archive(listed).model_copy(update={"seconds": time.monotonic() - start_s})


def _examine_observer(accel: AccelChoice | None, deadline: Deadline) -> DoctorResult:
    """Say whether QEMU can observe the kernel: --coverage needs it, and nothing else does."""
    from harness.observer.plugin_build import examine_plugin
    from harness.vm.guest import runs

    start_s = time.monotonic()
    try:
        works, detail = examine_plugin(runs.store(), deadline=deadline)
    except KlpError as error:
        works, detail = False, error.message
    seconds = time.monotonic() - start_s
    if not works:
        return _result(
            "coverage", _WARNED, detail, "test --coverage cannot be used", seconds=seconds
        )
    if accel is not None and accel.accel is Accel.KVM:
        detail = f"{detail}, under --accel tcg: KVM has no plugins"
    return _result("coverage", _PASSED, detail, seconds=seconds)


def _result(
    name: str,
    outcome: CheckOutcome,
    detail: str,
    hint: str | None = None,
    *,
    seconds: float = 0.0,
) -> DoctorResult:
    return DoctorResult(id=name, outcome=outcome, seconds=seconds, detail=detail, hint=hint)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
