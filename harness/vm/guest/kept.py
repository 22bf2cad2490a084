# SPDX-License-Identifier: GPL-2.0-only
"""The kept guests of this user: one folder each, which its owner holds locked while it lives.

The folder has mode 0700. The private key of the guest's run is in it, and is removed with it. A
folder that nobody holds was left by an owner that was killed; its QEMU has died with it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.agent_protocol import read_object
from harness.errors import KlpError, UsageError
from harness.resources import runs_root
from harness.vm.guest.run_folder import KEPT_NOTE, LOCK
from harness.vm.host.files import replace_text
from harness.vm.host.held import nobody_holds
from harness.vm.host.process import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.vm.guest.machine import Machine

PREFIX = "kept-"
NOTE = KEPT_NOTE
KEY = "client_key"
SSH_CONFIG = "ssh_config"
_KNOWN_HOSTS = "known_hosts"
_MODULES = "modules"
_ANSWER_S = 3.0
_HOST = "guest"


@dataclass(frozen=True, kw_only=True)
class KeptModule:
    """A module in the guest: its file on the host, and the addresses of its sections."""

    file: str
    sections: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class KeptGuest:
    """A kept guest. ``started`` and ``until`` are in seconds since 1970.

    ``owner`` is the process that holds it, ``text`` the address of ``_text`` there, None where the
    guest did not say, ``phys_base`` what KASLR added to the kernel's physical address, and
    ``five_levels`` whether it has page tables of five levels; ``modules`` are those of which the
    host has the file.
    """

    name: str
    owner: int
    qemu: int
    port: int
    host_public: str
    kernel: str
    vmlinux: str | None
    build_dir: str | None
    memory_mib: int
    cpus: int
    logs: str
    why: str = ""
    command: str = ""
    started: float = 0.0
    until: float = 0.0
    text: int | None = None
    phys_base: int = 0
    five_levels: bool = False
    modules: Mapping[str, KeptModule] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its key, its sockets and this description are."""
        return runs_root() / f"{PREFIX}{self.name}"

    def write(self, note: Path) -> None:
        """Write the description, as a whole; raises OSError."""
        replace_text(note, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, note: Path) -> KeptGuest:
        """Return what `write` has written; raises OSError, ValueError, KeyError, TypeError."""
        fields = read_object(note.read_bytes())
        modules = fields.pop("modules") if fields is not None else None
        if fields is None or not isinstance(modules, dict):
            raise ValueError(f"{note} does not describe a guest")
        modules = {name: KeptModule(**each) for name, each in modules.items()}
        return cls(**fields, modules=modules)


def kept_guests() -> tuple[KeptGuest, ...]:
    """Return the guests that are kept now, the oldest first."""
    found = [guest for guest, is_held in _all() if is_held]
    return tuple(sorted(found, key=lambda guest: guest.started))


def left_behind() -> tuple[KeptGuest, ...]:
    """Return what is registered of guests whose owner has been killed; the next run removes it."""
    return tuple(guest for guest, is_held in _all() if not is_held)


def find(name: str | None) -> KeptGuest:
    """Return the kept guest of that name, or whose name begins so; without one, the only one.

    Raises UsageError when there is none, or more than one.
    """
    guests = kept_guests()
    if not guests:
        raise UsageError(
            "no guest is kept", hint="`--keep-guest` of test, verify, run and boot keeps one"
        )
    names = [guest.name for guest in guests]
    if name is None:
        if len(guests) > 1:
            raise UsageError("which guest is meant?", hint=f"kept are {', '.join(names)}")
        return guests[0]
    meant = [g for g in guests if g.name == name] or [g for g in guests if g.name.startswith(name)]
    if len(meant) != 1:
        what = "no guest" if not meant else "more than one guest"
        raise UsageError(f"{what} of the name {name} is kept", hint=f"kept are {', '.join(names)}")
    return meant[0]


def how_to_reach(guest: KeptGuest) -> tuple[str, ...]:
    """Return lines that say what can be done with the guest, and when it ends."""
    ends = time.strftime("%H:%M", time.localtime(guest.until))
    return (
        f"kept: guest {guest.name} ({guest.why})",
        f"  {ssh_line(guest)}",
        f"  klp-harness ssh {guest.name} | gdb {guest.name} | dump {guest.name}",
        f"  {guest.memory_mib} MiB, ends at {ends} or by: klp-harness guests stop {guest.name}",
    )


def ssh_line(guest: KeptGuest) -> str:
    """Return the command of OpenSSH that opens a shell in the guest."""
    return command_line(ssh_argv(guest))


def ssh_argv(guest: KeptGuest) -> tuple[str, ...]:
    """Return OpenSSH's command for that guest, with its key and its pinned host key."""
    return ("ssh", "-F", str(guest.folder / SSH_CONFIG), _HOST)


def write_ssh_files(guest: KeptGuest, folder: Path) -> None:
    """Write what ssh(1) reads: the guest's address, its host key, which key to use."""
    place = f"[127.0.0.1]:{guest.port}"
    (folder / _KNOWN_HOSTS).write_text(f"{place} {guest.host_public}\n")
    settings = {
        "HostName": "127.0.0.1",
        "Port": guest.port,
        "User": "root",
        "IdentityFile": f'"{folder / KEY}"',
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f'"{folder / _KNOWN_HOSTS}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "ForwardAgent": "no",
        "LogLevel": "ERROR",
    }
    lines = (f"    {name} {value}\n" for name, value in settings.items())
    (folder / SSH_CONFIG).write_text(f"Host {_HOST}\n{''.join(lines)}")


def note_of_dump(guest: KeptGuest, dump: Path) -> None:
    """Describe the guest beside a dump of it, for `read_note_of_dump`; raises OSError."""
    guest.write(dump.with_name(f"{dump.name}.json"))


def read_note_of_dump(dump: Path) -> KeptGuest:
    """Return the description beside a dump; raises OSError, ValueError, KeyError, TypeError."""
    return KeptGuest.read(dump.with_name(f"{dump.name}.json"))


def is_alive(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def answers(machine: Machine) -> bool:
    """Return whether the guest's agent answers within a moment."""
    try:
        machine.request("hello", deadline=machine.scaled(_ANSWER_S))
    except (KlpError, OSError, TimeoutError):
        return False
    return True


def text_address(machine: Machine) -> int | None:
    """Return the address of ``_text`` in the guest, None where /proc/kallsyms has none."""
    ran = machine.run(["grep", "-m1", "-wF", "_text", "/proc/kallsyms"])
    words = ran.stdout.split()
    return int(words[0], 16) or None if ran.ok and words else None


def read_modules(machine: Machine, folder: Path) -> dict[str, KeptModule]:
    """Return the guest's modules that came from this host, with copies of their files.

    The addresses are those of /sys/module/NAME/sections (kernel/module/sysfs.c).
    """
    loaded = {entry.name for entry in machine.list_dir("/sys/module")}
    found: dict[str, KeptModule] = {}
    for path in machine.uploaded():
        name = path.stem.replace("-", "_")
        if path.suffix != ".ko" or name not in loaded or not path.is_file():
            continue
        place = f"/sys/module/{name}/sections"
        ran = machine.run(["sh", "-c", 'cd "$1" && grep -H "" .[!.]* * 2>/dev/null', "-", place])
        sections = dict(_sections(ran.stdout.splitlines()))
        if not sections:
            continue
        copy = folder / _MODULES / f"{name}.ko"
        copy.parent.mkdir(exist_ok=True, mode=0o700)
        shutil.copyfile(path, copy)
        found[name] = KeptModule(file=str(copy), sections=sections)
    return found


def _sections(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:
        name, _, value = line.partition(":")
        with contextlib.suppress(ValueError):
            yield name, int(value, 16)


def _all() -> Iterable[tuple[KeptGuest, bool]]:
    with contextlib.suppress(OSError):
        for folder in sorted(runs_root().glob(f"{PREFIX}*")):
            # One may end meanwhile, or be of another version.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                guest = KeptGuest.read(folder / NOTE)
                with nobody_holds(folder / LOCK) as unused:
                    is_held = not unused
                yield guest, is_held
