# SPDX-License-Identifier: GPL-2.0-only
"""How many guests this host can run at a time, and how much longer everything takes then.

`measure_host` reads the host's state; all else is computed, from figures measured on two cores.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.vm.host.accel import Accel
from harness.vm.host.files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATE_MIB = 256
"""The RAM file of a template, which all its clones share."""

CLONE_MIB = 150
"""What a clone needs in addition: the pages it wrote, and QEMU's own memory."""

_RESERVE_MIB = 1024  # for pytest and its workers, and the rest of the host
_MAX_GUESTS = 64
# A guest mostly waits for the kernel's 1 Hz retry of a transition, so guests overlap.
_GUESTS_PER_CORE = {Accel.TCG: 4.0, Accel.KVM: 6.0}  # KVM's is not measured
# The tests of the behaviour suite wait more than what other commands do in guests. Under TCG on two
# cores they take 165 and 168 s with 8 guests, 153 s with 10 and 144 s with 12, of which some may be
# starved as soon as anything else runs.
_TESTS_PER_CORE = {Accel.TCG: 5.0, Accel.KVM: 6.0}
_SLOWNESS = {Accel.TCG: 2.0, Accel.KVM: 1.0}
# From the same figures: a guest's own cycle takes 3.2 s alone, 5.4 s among 8, 8.5 s among 12. This
# share of the guests per core stays above all of these.
_LOAD_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class HostCapacity:
    """What the harness may use: cores (a cgroup may allow a fraction), and memory now free."""

    cores: float
    memory_mib: int
    memory_available_mib: int


def default_guests(host: HostCapacity, accel: Accel) -> int:
    """Return how many guests to run at a time when the user gave no number; at least 1."""
    return _at_a_time(host, _GUESTS_PER_CORE[accel])


def default_tests(host: HostCapacity, accel: Accel) -> int:
    """Return how many tests to run at a time, each in a guest, when the user gave no number."""
    return _at_a_time(host, _TESTS_PER_CORE[accel])


def _at_a_time(host: HostCapacity, per_core: float) -> int:
    return max(1, min(math.floor(host.cores * per_core), _by_memory(host), _MAX_GUESTS))


def waiting_guests(host: HostCapacity, guests: int) -> int:
    """Return how many guests may wait beside so many that run: no more than these."""
    return max(0, min(guests, _by_memory(host) - guests))


def _by_memory(host: HostCapacity) -> int:
    return (host.memory_available_mib - _RESERVE_MIB - TEMPLATE_MIB) // CLONE_MIB


def time_scale(accel: Accel, *, guests: int, cores: float) -> float:
    """Return by what to multiply a deadline that suits one guest on an idle host under KVM.

    Never below 1. Intervals of the guest kernel's own clock need no such factor.
    """
    load = guests / cores * _LOAD_SHARE
    return _SLOWNESS[accel] * max(1.0, load)


def measure_host(*, root: Path = Path("/")) -> HostCapacity:
    """Return this host's capacity, within the limits of our cgroups and CPU affinity.

    ``root`` is where /proc and the cgroup file systems are looked for.
    """
    meminfo = (root / "proc/meminfo").read_text()
    total, available = (parse_meminfo(meminfo, key) for key in ("MemTotal", "MemAvailable"))
    for limit in _memory_limits(root):
        total = min(total, limit.mib)
        # The page cache counts as used there, and is reclaimed when memory is needed.
        available = min(available, max(0, limit.mib - limit.used_mib + limit.reclaimable_mib))
    return HostCapacity(
        cores=usable_cores(root=root), memory_mib=total, memory_available_mib=available
    )


def usable_cores(*, root: Path = Path("/")) -> float:
    """Return how many CPUs' time this process may use: its affinity, and quotas of its cgroups."""
    quotas = [parse_cpu_max(_text(folder / "cpu.max")) for folder in own_folders(root, None)]
    for folder in own_folders(root, "cpu"):
        quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        quotas.append(parse_cpu_max(f"{quota.strip()} {period.strip()}"))
    return min([float(len(os.sched_getaffinity(0))), *quotas])


@dataclass(frozen=True, kw_only=True)
class _MemoryLimit:
    mib: int
    used_mib: int
    reclaimable_mib: int


def _memory_limits(root: Path) -> Iterator[_MemoryLimit]:
    for folder in own_folders(root, None):
        # Above memory.high a cgroup is not killed, and is slowed down until nothing moves.
        for name in ("memory.max", "memory.high"):
            limit = parse_limit_mib(_text(folder / name))
            if limit is not None:
                yield _limit(folder, limit, "memory.current", "inactive_file")
    for folder in own_folders(root, "memory"):
        # Without a limit it is the largest multiple of a page in 63 bits, which no host has.
        limit = parse_limit_mib(_text(folder / "memory.limit_in_bytes"))
        if limit is not None:
            yield _limit(folder, limit, "memory.usage_in_bytes", "total_inactive_file")


def _limit(folder: Path, mib: int, used: str, reclaimable: str) -> _MemoryLimit:
    return _MemoryLimit(
        mib=mib,
        used_mib=parse_limit_mib(_text(folder / used)) or 0,
        reclaimable_mib=parse_stat_mib(_text(folder / "memory.stat"), reclaimable),
    )


def own_folders(root: Path, controller: str | None) -> list[Path]:
    """Return our cgroup's folder and all above it that can be seen: each may hold a limit.

    ``controller`` is one of cgroup v1; None: cgroup v2, which is mounted beside v1 on hybrid hosts.
    cgroups(7): /proc/self/cgroup has our path in each hierarchy, /proc/self/mountinfo where each is
    mounted, and from which path on (in a container, from its own).
    """
    membership = _text(root / "proc/self/cgroup")
    own = None
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number == "0") if controller is None else (controller in controllers.split(",")):
            own = path
    mount = _cgroup_mount(_text(root / "proc/self/mountinfo"), controller)
    if own is None or mount is None:
        return []
    begin, place = mount
    top = root / place.lstrip("/")
    inner = PurePosixPath(own)
    # A path that is not below what is mounted is seen from another namespace: its top is ours.
    below = inner.relative_to(begin) if inner.is_relative_to(begin) else PurePosixPath()
    if ".." in below.parts:
        below = PurePosixPath()
    folder = top / below
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))]


def _cgroup_mount(mountinfo: str, controller: str | None) -> tuple[str, str] | None:
    """Return which path of a hierarchy is mounted, and where; proc_pid_mountinfo(5)."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        wanted = (
            kind[0] == "cgroup2"
            if controller is None
            else kind[0] == "cgroup" and controller in kind[2].split(",")
        )
        if wanted:
            return _unescaped(fields[3]), _unescaped(fields[4])
    return None


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def parse_meminfo(text: str, key: str) -> int:
    """Return a line of /proc/meminfo in MiB; 0 when it is not there."""
    found = re.search(rf"^{re.escape(key)}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def parse_cpu_max(text: str) -> float:
    """Return the cores that "QUOTA PERIOD" allows, as in cpu.max; infinite for "max" and -1."""
    quota, _, period = text.strip().partition(" ")
    if not quota.isdigit() or not period.isdigit() or 0 in (int(quota), int(period)):
        return math.inf
    return int(quota) / int(period)


def parse_limit_mib(text: str) -> int | None:
    """Return a cgroup's memory figure in MiB, or None for "max" and for no file."""
    return int(text) // (1 << 20) if text.strip().isdigit() else None


def parse_stat_mib(text: str, key: str) -> int:
    """Return a line of cgroup v2's memory.stat in MiB; 0 when it is not there."""
    found = re.search(rf"^{re.escape(key)} (\d+)$", text, re.MULTILINE)
    return int(found.group(1)) // (1 << 20) if found else 0


def _text(path: Path) -> str:
    # A controller that is not enabled has no file: that is no limit.
    return read_text(path) or ""
