# SPDX-License-Identifier: GPL-2.0-only
"""How many guests this host can run at a time, and how much longer everything takes then.

`measure_host` reads the host's state; all else is computed, from figures measured on two cores.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.vm.host.accel import Accel
from harness.vm.host.files import read_text

TEMPLATE_MIB = 256
"""The RAM file of a template, which all its clones share."""

CLONE_MIB = 150
"""What a clone needs in addition: the pages it wrote, and QEMU's own memory."""

_RESERVE_MIB = 1024  # for pytest and its workers, and the rest of the host
_MAX_GUESTS = 64
# A test mostly waits for the kernel's 1 Hz retry of a transition, so guests overlap. Under TCG on
# two cores, seconds for a load-disable-unload cycle: 1 guest 3.2, 2 1.56, 4 0.84, 8 0.68, 12 0.71.
_GUESTS_PER_CORE = {Accel.TCG: 4.0, Accel.KVM: 6.0}  # KVM's is not measured
_SLOWNESS = {Accel.TCG: 2.0, Accel.KVM: 1.0}
# From the same figures: a guest's own cycle takes 3.2 s alone, 5.4 s among 8, 8.5 s among 12. This
# share of the guests per core stays above all of these.
_LOAD_SHARE = 0.5

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class HostCapacity:
    """What the harness may use: cores (a cgroup may allow a fraction), and memory now free."""

    cores: float
    memory_mib: int
    memory_available_mib: int


def default_guests(host: HostCapacity, accel: Accel) -> int:
    """Return how many guests to run at a time when the user gave no number; at least 1."""
    by_cores = math.floor(host.cores * _GUESTS_PER_CORE[accel])
    by_memory = (host.memory_available_mib - _RESERVE_MIB - TEMPLATE_MIB) // CLONE_MIB
    return max(1, min(by_cores, by_memory, _MAX_GUESTS))


def time_scale(accel: Accel, *, guests: int, cores: float) -> float:
    """Return by what to multiply a deadline that suits one guest on an idle host under KVM.

    Never below 1. Intervals of the guest kernel's own clock need no such factor.
    """
    load = guests / cores * _LOAD_SHARE
    return _SLOWNESS[accel] * max(1.0, load)


def measure_host(*, proc: Path = Path("/proc"), cgroup: Path = _CGROUP) -> HostCapacity:
    """Return this host's capacity, within the limits of our cgroup and CPU affinity."""
    meminfo = (proc / "meminfo").read_text()
    folders = _own_cgroups((proc / "self" / "cgroup").read_text(), cgroup)
    total, available = (parse_meminfo(meminfo, key) for key in ("MemTotal", "MemAvailable"))
    cores = float(len(os.sched_getaffinity(0)))
    for folder in folders:
        cores = min(cores, parse_cpu_max(_text(folder / "cpu.max")))
        limit = parse_limit_mib(_text(folder / "memory.max"))
        if limit is not None:
            used = parse_limit_mib(_text(folder / "memory.current")) or 0
            # The page cache counts as used there, and is reclaimed when memory is needed.
            reclaimable = parse_stat_mib(_text(folder / "memory.stat"), "inactive_file")
            total = min(total, limit)
            available = min(available, max(0, limit - used + reclaimable))
    return HostCapacity(cores=cores, memory_mib=total, memory_available_mib=available)


def parse_meminfo(text: str, key: str) -> int:
    """Return a line of /proc/meminfo in MiB; 0 when it is not there."""
    found = re.search(rf"^{re.escape(key)}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def parse_cpu_max(text: str) -> float:
    """Return the cores that cgroup v2's cpu.max ("QUOTA PERIOD") allows, infinite for "max"."""
    quota, _, period = text.strip().partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return math.inf
    return int(quota) / int(period)


def parse_limit_mib(text: str) -> int | None:
    """Return a cgroup v2 memory figure in MiB, or None for "max" and for no file."""
    return int(text) // (1 << 20) if text.strip().isdigit() else None


def parse_stat_mib(text: str, key: str) -> int:
    """Return a line of cgroup v2's memory.stat in MiB; 0 when it is not there."""
    found = re.search(rf"^{re.escape(key)} (\d+)$", text, re.MULTILINE)
    return int(found.group(1)) // (1 << 20) if found else 0


def _own_cgroups(membership: str, root: Path) -> list[Path]:
    """Return our cgroup v2 folder and all above it: each may hold a limit."""
    line = next((line for line in membership.splitlines() if line.startswith("0::")), "0::/")
    own = root / line.removeprefix("0::").lstrip("/")
    return [own, *(parent for parent in own.parents if parent.is_relative_to(root))]


def _text(path: Path) -> str:
    # A controller that is not enabled has no file: that is no limit.
    return read_text(path) or ""
