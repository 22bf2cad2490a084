# SPDX-License-Identifier: GPL-2.0-only
"""The settings of a kernel, which a patch leaves as they were when it is unloaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from harness.vm.guest.machine import Machine

# Some of them cannot be read (vm.drop_caches), so the exit code of grep(1) says nothing.
_READ = 'grep -rs "" /proc/sys; grep -s "" /sys/module/*/parameters/*; true'
_ALWAYS_THERE = "/proc/sys/kernel/ostype"  # with CONFIG_PROC_SYSCTL
_PARAMETERS = "/sys/module/"
_LINE = re.compile(r"(/[^:]+):(.*)")
# Counters and random numbers; what any livepatch changes (tainted); what the network code adapts.
_VARIES = re.compile(
    r"/proc/sys/(fs/[\w-]*(nr|state)|fs/(quota|binfmt_misc)/.*|kernel/(random/.*|ns_last_pid|tainted)"
    r"|kernel/(pty/nr|sched_domain/.*)|net/.*)\Z"
)


def read_settings(machine: Machine, *, without: Collection[str]) -> Mapping[str, str]:
    """Return the values of /proc/sys and of what is built in, by their files' paths.

    A module's parameter may be a counter, so those of the modules ``without`` are left out.
    Raises HarnessError when the guest has settings and they could not be read.
    """
    read = machine.run(["sh", "-c", _READ])
    settings = parse_settings(read.stdout)
    if _ALWAYS_THERE not in settings and _has(machine, _ALWAYS_THERE):
        raise HarnessError(
            "the settings of the guest's kernel could not be read",
            details=tuple(read.stderr.splitlines()),
        )
    return {
        path: value
        for path, value in settings.items()
        if not (path.startswith(_PARAMETERS) and path.split("/")[3] in without)
    }


def _has(machine: Machine, path: str) -> bool:
    try:
        machine.stat(path)
    except FileNotFoundError:
        return False
    return True


def parse_settings(text: str) -> Mapping[str, str]:
    """Return the values in lines of ``path:value``, without those that change by themselves.

    The lines of one file are joined.
    """
    values: dict[str, str] = {}
    for match in map(_LINE.match, text.splitlines()):
        if match is not None and not _VARIES.match(match[1]):
            path, value = match.groups()
            values[path] = f"{values[path]} {value}" if path in values else value
    return values


def changed_settings(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return in words which settings differ; one that is there only before or after does not."""
    return tuple(
        f"setting {path} is {now[path]!r}, and was {value!r}"
        for path, value in sorted(before.items())
        if path in now and now[path] != value
    )
