# SPDX-License-Identifier: GPL-2.0-only
"""How many guests, and how much more time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from harness.vm.host.accel import Accel
from harness.vm.host.capacity import (
    HostCapacity,
    default_guests,
    measure_host,
    parse_cpu_max,
    parse_limit_mib,
    parse_meminfo,
    parse_stat_mib,
    time_scale,
)

if TYPE_CHECKING:
    from pathlib import Path

MEMINFO = "MemTotal:       8388608 kB\nMemFree:  100 kB\nMemAvailable:    6291456 kB\n"


def host(cores: float, memory_mib: int = 24_000) -> HostCapacity:
    return HostCapacity(cores=cores, memory_mib=memory_mib, memory_available_mib=memory_mib)


def test_two_cores_run_eight_guests_under_tcg() -> None:
    """Measured: the cycles per second are best at 8 guests on 2 cores."""
    assert default_guests(host(2), Accel.TCG) == 8


def test_kvm_takes_more_guests() -> None:
    """More guests fit on a core that need not translate their code."""
    assert default_guests(host(2), Accel.KVM) > default_guests(host(2), Accel.TCG)


@pytest.mark.parametrize(
    ("memory_mib", "guests"),
    [(24_000, 8), (1024 + 256 + 5 * 150, 5), (1024 + 256 + 5 * 150 - 1, 4), (512, 1), (0, 1)],
)
def test_memory_bounds_the_guests(memory_mib: int, guests: int) -> None:
    """Guests never take more memory than the host has free."""
    assert default_guests(host(2, memory_mib), Accel.TCG) == guests


def test_a_fraction_of_a_core_still_runs_one() -> None:
    """A small container runs tests one after another rather than none."""
    assert default_guests(host(0.1), Accel.TCG) == 1


def test_large_hosts_are_bounded() -> None:
    """Beyond 64 guests other limits of the host come first."""
    assert default_guests(host(256, 1_000_000), Accel.KVM) == 64


def test_scale_is_one_for_a_guest_alone_under_kvm() -> None:
    """Deadlines are as written on the hardware that they were written for."""
    assert time_scale(Accel.KVM, guests=1, cores=8) == 1.0


def test_scale_grows_with_translation_and_with_load() -> None:
    """Slower guests, and more of them, get longer deadlines."""
    alone = time_scale(Accel.TCG, guests=1, cores=2)
    assert alone > time_scale(Accel.KVM, guests=1, cores=2)
    assert time_scale(Accel.TCG, guests=8, cores=2) > alone
    assert time_scale(Accel.TCG, guests=16, cores=2) > time_scale(Accel.TCG, guests=8, cores=2)


@pytest.mark.parametrize(("guests", "slower"), [(8, 5.4 / 3.2), (12, 8.5 / 3.2)])
def test_scale_covers_what_was_measured_under_load(guests: int, slower: float) -> None:
    """Deadlines stay above the slowness that was measured on two cores."""
    alone = time_scale(Accel.TCG, guests=1, cores=2)
    assert time_scale(Accel.TCG, guests=guests, cores=2) / alone >= slower


def test_meminfo() -> None:
    """Lines of /proc/meminfo are read in MiB; a missing one is 0."""
    assert parse_meminfo(MEMINFO, "MemAvailable") == 6144
    assert parse_meminfo(MEMINFO, "NoSuchLine") == 0


@pytest.mark.parametrize(
    ("text", "cores"),
    [("150000 100000\n", 1.5), ("max 100000\n", math.inf), ("", math.inf), ("1 0", math.inf)],
)
def test_cpu_max(text: str, cores: float) -> None:
    """cpu.max is a fraction of cores, or no limit, whatever it contains."""
    assert parse_cpu_max(text) == cores


def test_memory_limits() -> None:
    """ "max" and a missing file are no limit."""
    assert parse_limit_mib("2147483648\n") == 2048
    assert parse_limit_mib("max\n") is None
    assert parse_limit_mib("") is None
    assert parse_stat_mib("anon 5\ninactive_file 1048576\n", "inactive_file") == 1
    assert parse_stat_mib("", "inactive_file") == 0


def cgroups(tmp_path: Path) -> tuple[Path, Path]:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (root / "slice" / "job").mkdir(parents=True)
    (proc / "meminfo").write_text(MEMINFO)
    (proc / "self" / "cgroup").write_text("0::/slice/job\n")
    return proc, root


def test_measure_without_limits(tmp_path: Path) -> None:
    """Without a cgroup limit the host's own memory counts."""
    proc, root = cgroups(tmp_path)
    measured = measure_host(proc=proc, cgroup=root)
    assert measured.memory_mib == 8192
    assert measured.memory_available_mib == 6144
    assert measured.cores >= 1


def test_measure_keeps_within_every_cgroup_above_us(tmp_path: Path) -> None:
    """A limit on a parent binds as one of our own does."""
    proc, root = cgroups(tmp_path)
    (root / "slice" / "cpu.max").write_text("50000 100000\n")
    (root / "slice" / "job" / "memory.max").write_text(f"{2048 << 20}\n")
    (root / "slice" / "job" / "memory.current").write_text(f"{1536 << 20}\n")
    (root / "slice" / "job" / "memory.stat").write_text(f"inactive_file {512 << 20}\n")
    measured = measure_host(proc=proc, cgroup=root)
    assert measured == HostCapacity(cores=0.5, memory_mib=2048, memory_available_mib=1024)


def test_measure_on_an_old_cgroup_version(tmp_path: Path) -> None:
    """cgroup v1 is not read, and is no error."""
    proc, root = cgroups(tmp_path)
    (proc / "self" / "cgroup").write_text("5:memory:/slice\n")
    assert measure_host(proc=proc, cgroup=root).memory_available_mib == 6144


def test_measure_this_host() -> None:
    """What is measured here is possible."""
    measured = measure_host()
    assert measured.cores > 0
    assert 0 < measured.memory_available_mib <= measured.memory_mib
