# SPDX-License-Identifier: GPL-2.0-only
"""How many guests, and how much more time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from harness.vm.host.accel import Accel
from harness.vm.host.capacity import (
    CLONE_MIB,
    TEMPLATE_MIB,
    HostCapacity,
    default_guests,
    default_tests,
    measure_host,
    parse_cpu_max,
    parse_limit_mib,
    parse_meminfo,
    parse_stat_mib,
    time_scale,
    waiting_guests,
)
from harness.vm.kernel import toolchain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEMINFO = "MemTotal:       8388608 kB\nMemFree:  100 kB\nMemAvailable:    6291456 kB\n"


def host(cores: float, memory_mib: int = 24_000) -> HostCapacity:
    return HostCapacity(cores=cores, memory_mib=memory_mib, memory_available_mib=memory_mib)


def test_two_cores_run_eight_guests_under_tcg() -> None:
    """Measured: with 12 guests on 2 cores some are starved when anything else runs."""
    assert default_guests(host(2), Accel.TCG) == 8


def test_tests_wait_more_than_other_guests_do() -> None:
    """Measured: with 10 tests at a time the suite takes 0.92 of the time that it takes with 8."""
    assert default_tests(host(2), Accel.TCG) == 10
    assert default_tests(host(2, 1024 + 256 + 5 * 150), Accel.TCG) == 5
    assert default_tests(host(0.1), Accel.TCG) == 1


@pytest.mark.parametrize("most", [default_guests, default_tests])
def test_kvm_takes_as_many_guests(most: Callable[[HostCapacity, Accel], int]) -> None:
    """No fewer guests fit on a core that need not translate their code."""
    assert most(host(2), Accel.KVM) >= most(host(2), Accel.TCG)


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


V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = (
    "31 23 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
    "32 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
)
HYBRID = V1 + "33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
V1_OWN = "5:memory:/slice/job\n3:cpu,cpuacct:/slice/job\n1:name=systemd:/\n"
NO_LIMIT = "9223372036854771712\n"


def machine(tmp_path: Path, own: str, mounts: str) -> Path:
    """A root with /proc and what is written to its /sys later."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    (tmp_path / "proc/self/cgroup").write_text(own)
    (tmp_path / "proc/self/mountinfo").write_text(mounts)
    return tmp_path


def limits(root: Path, folder: str, **files: str) -> None:
    (root / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / "sys/fs/cgroup" / folder / name.replace("__", ".")).write_text(text)


def test_measure_without_limits(tmp_path: Path) -> None:
    """Without a cgroup limit the host's own memory counts."""
    measured = measure_host(root=machine(tmp_path, "0::/slice/job\n", V2))
    assert measured.memory_mib == 8192
    assert measured.memory_available_mib == 6144
    assert measured.cores >= 1


def test_measure_keeps_within_every_cgroup_above_us(tmp_path: Path) -> None:
    """A limit on a parent binds as one of our own does."""
    root = machine(tmp_path, "0::/slice/job\n", V2)
    limits(root, "slice", cpu__max="50000 100000\n")
    limits(
        root,
        "slice/job",
        memory__max=f"{2048 << 20}\n",
        memory__current=f"{1536 << 20}\n",
        memory__stat=f"inactive_file {512 << 20}\n",
    )
    measured = measure_host(root=root)
    assert measured == HostCapacity(cores=0.5, memory_mib=2048, memory_available_mib=1024)


def test_a_cgroup_that_is_slowed_down_counts_as_full(tmp_path: Path) -> None:
    """Above memory.high nothing moves any more, though nothing is killed."""
    root = machine(tmp_path, "0::/job\n", V2)
    limits(root, "job", memory__max="max\n", memory__high=f"{1024 << 20}\n")
    assert measure_host(root=root).memory_available_mib == 1024


@pytest.mark.parametrize("mounts", [V1, HYBRID])
@pytest.mark.parametrize("level", ["", "slice", "slice/job"])
def test_limits_of_cgroup_v1(tmp_path: Path, mounts: str, level: str) -> None:
    """Eight guests were planned in 1 GiB: version 1 has other files, at every level."""
    own = V1_OWN + ("0::/slice/job\n" if mounts is HYBRID else "")
    root = machine(tmp_path, own, mounts)
    for folder in ("", "slice", "slice/job"):
        limits(root, f"memory/{folder}", memory__limit_in_bytes=NO_LIMIT)
        limits(root, f"cpu,cpuacct/{folder}", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    limits(
        root,
        f"memory/{level}",
        memory__limit_in_bytes=f"{1024 << 20}\n",
        memory__usage_in_bytes=f"{512 << 20}\n",
        memory__stat=f"inactive_file 0\ntotal_inactive_file {256 << 20}\n",
    )
    limits(root, f"cpu,cpuacct/{level}", cpu__cfs_quota_us="50000\n")
    measured = measure_host(root=root)
    assert measured == HostCapacity(cores=0.5, memory_mib=1024, memory_available_mib=768)
    assert default_guests(measured, Accel.TCG) == 1


def test_limits_of_the_second_version_on_a_hybrid_host(tmp_path: Path) -> None:
    """What v2 limits beside v1 binds as well."""
    root = machine(tmp_path, V1_OWN + "0::/job\n", HYBRID)
    limits(root, "unified/job", memory__max=f"{512 << 20}\n")
    assert measure_host(root=root).memory_mib == 512


@pytest.mark.parametrize(
    ("begin", "own"),
    [("/docker/abc", "/docker/abc"), ("/docker/abc", "/"), ("/", "/../other"), ("/", "/docker/x")],
)
def test_limits_of_a_container(tmp_path: Path, begin: str, own: str) -> None:
    """In a container its own cgroup is what is mounted, whatever path the host has for it."""
    mounts = f"31 23 0:27 {begin} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    root = machine(tmp_path, f"5:memory:{own}\n", mounts)
    limits(root, "memory", memory__limit_in_bytes=f"{1024 << 20}\n")
    assert measure_host(root=root).memory_mib == 1024


@pytest.mark.parametrize("text", ["", "x", "0::", "a:b:c:d", "31 23 - cgroup2\n", "\0"])
def test_files_of_another_form(tmp_path: Path, text: str) -> None:
    """What is not understood of a host's cgroups is no limit, and no error."""
    assert measure_host(root=machine(tmp_path, text, text)).memory_mib == 8192


def test_the_jobs_of_make_keep_within_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """make -j ignored CPU quotas."""
    monkeypatch.setattr(toolchain, "usable_cores", lambda: 1.5)
    assert toolchain.jobs() == "-j3"


def test_measure_this_host() -> None:
    """What is measured here is possible."""
    measured = measure_host()
    assert measured.cores > 0
    assert 0 < measured.memory_available_mib <= measured.memory_mib


def test_guests_that_wait_need_memory_alone() -> None:
    """As many as run, where there is memory for both."""
    assert waiting_guests(host(2), 8) == 8
    tight = TEMPLATE_MIB + 1024 + 10 * CLONE_MIB
    assert waiting_guests(host(2, tight), 8) == 2
    assert waiting_guests(host(2, tight), 12) == 0
