# SPDX-License-Identifier: GPL-2.0-only
"""The state of a guest: hooks, modules, kernel threads, entries of sysfs and procfs."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from harness.vm.elf.vmlinux import read_vmlinux

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.livepatch.patch import Patch
    from harness.vm.guest.machine import Machine

_HOOKS = "/sys/kernel/tracing/enabled_functions"
# "name [module] (count) R I ..." (kernel/trace/ftrace.c, t_show()); I is an IPMODIFY hook, which
# redirects the function.
_HOOK = re.compile(r"(?P<name>\S+)(?: \[(?P<module>\w+)\])? \(\d+\)(?P<flags>[^\t]*)")
_PLACES = (
    *("/sys/kernel", "/sys/module", "/sys/class", "/sys/bus", "/sys/kernel/debug", "/sys/firmware"),
    *("/proc", "/proc/sys", "/proc/sys/kernel", "/proc/fs", "/dev", "/sys/devices/virtual"),
    *("/sys/class/misc", "/sys/devices/virtual/misc"),
)
_OWN_THREAD = re.compile(r"kworker/|klp-|migration/|cpuhp/|ksoftirqd/|idle_inject/|irq/")


@dataclass(frozen=True, kw_only=True)
class GuestState:
    """What is in a guest at one time: the same before a patch is loaded as after its unload."""

    modules: frozenset[str]
    hooks: frozenset[str]
    threads: frozenset[str]
    entries: frozenset[str]
    patches: frozenset[str]

    def changes_since(self, before: GuestState) -> tuple[str, ...]:
        """Return in words what is left that was not there before, and what is missing."""
        lines = []
        for field in fields(self):
            now, then = getattr(self, field.name), getattr(before, field.name)
            what = _WORDS[field.name]
            lines += [f"{what} {name} is left" for name in sorted(now - then)]
            lines += [f"{what} {name} is missing" for name in sorted(then - now)]
        return tuple(lines)


_WORDS = {
    "modules": "module",
    "hooks": "the hook on",
    "threads": "kernel thread",
    "entries": "entry",
    "patches": "patch",
}


def read_state(machine: Machine) -> GuestState:
    """Return the state of a guest. Raises OSError when a file that each guest has is unreadable."""
    entries: set[str] = set()
    for place in _PLACES:
        try:
            listed = machine.list_dir(place)
        except FileNotFoundError:
            continue
        entries |= {
            f"{place}/{entry.name}"
            for entry in listed
            if not (place in ("/proc", "/dev") and entry.name.isdigit())
        }
    sample = machine.tasks()
    return GuestState(
        modules=frozenset(
            line.split()[0] for line in machine.read("/proc/modules").splitlines() if line
        ),
        hooks=frozenset(read_hooks(machine)),
        threads=frozenset(
            task.comm for task in sample.tasks if task.kthread and not _OWN_THREAD.match(task.comm)
        ),
        entries=frozenset(entries),
        patches=frozenset(entry.name for entry in machine.list_dir("/sys/kernel/livepatch")),
    )


def read_hooks(machine: Machine) -> frozenset[str]:
    """Return the functions that are redirected, as ``object:function``."""
    return parse_hooks(machine.read(_HOOKS).splitlines())


def parse_hooks(lines: Iterable[str]) -> frozenset[str]:
    """Return the redirected functions that lines of enabled_functions name."""
    found = set()
    for line in lines:
        match = _HOOK.match(line)
        if match and "I" in match["flags"].split():
            found.add(f"{match['module'] or 'vmlinux'}:{match['name']}")
    return frozenset(found)


def functions_of(patch: Patch, machine: Machine) -> frozenset[str]:
    """Return what the patch should redirect now: its functions in the objects that are loaded.

    They are read from sysfs, which also has those that a module fills in when it is loaded.
    """
    modules = {line.split()[0] for line in machine.read("/proc/modules").splitlines() if line}
    return frozenset(
        f"{patched.name}:{function.name}"
        for patched in patch.objects()
        if patched.name == "vmlinux" or patched.name in modules
        for function in patched.functions()
    )


def under_other_names(
    functions: Iterable[str], hooks: Iterable[str], vmlinux: Path | None
) -> frozenset[str]:
    """Return the functions of vmlinux whose hook is listed under another name of theirs.

    ftrace shows one name of an address, the first in kallsyms. A system call without arguments has
    two: __x64_sys_getpid and __ia32_sys_getpid (SYSCALL_DEFINE0, asm/syscall_wrapper.h).
    """
    if vmlinux is None:
        return frozenset()
    image = read_vmlinux(vmlinux)

    def addresses(name: str) -> set[int]:
        kind, _, function = name.partition(":")
        return {each.address for each in image.named(function)} if kind == "vmlinux" else set()

    hooked = {address for hook in hooks for address in addresses(hook)}
    return frozenset(name for name in functions if addresses(name) & hooked)
