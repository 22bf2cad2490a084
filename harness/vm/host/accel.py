# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator can run a guest on this host, found out by running one.

A /dev/kvm that opens proves nothing: under some hypervisors KVM_CREATE_VM works too, and then QEMU
dies ("failed to set MSR"), the guest never executes an instruction, or each one is emulated, which
was 50 times slower than TCG where it was measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import CommandTimeout, HarnessError, QemuFailed, UsageError
from harness.log import LOGGER
from harness.resources import cache_root
from harness.vm.host import probe_guest
from harness.vm.host.files import boot_id, replace_text
from harness.vm.host.process import Finished, find_program, run
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QEMU = "qemu-system-x86_64"

KVM_DEVICE = Path("/dev/kvm")
# Even TCG needs only 0.15 s. A wrong "no" is kept until the host boots, so a busy host gets time.
_PROBE_S = 10.0
# A probe this quick needs no comparison with TCG. How much slower than TCG is no chance any more.
_QUICK_S = 1.0
_TIMES_SLOWER = 8.0
_FORMAT = 3


class Accel(StrEnum):
    """How QEMU executes the guest: on the host's CPU, or translated."""

    KVM = "kvm"
    TCG = "tcg"


# tsc=off: with KVM a restored guest would find its TSC unstable. la57=off: four-level page tables.
# erms=off, fsrm=off: with them the kernel clears and copies pages byte by byte (rep stosb, rep
# movsb), of which TCG executes each as an instruction; without, eight bytes at a time.
# thread=single: with a thread for each CPU one may translate what another is changing, and QEMU 7.2
# may then keep the old translation. A task that meets an int3 of ftrace's in this way never leaves
# it. CPUs that take turns cost nothing when more guests run than the host has cores.
ACCEL_ARGUMENTS: Mapping[Accel, tuple[str, ...]] = {
    Accel.KVM: ("-accel", "kvm", "-cpu", "host,migratable=on,tsc=off"),
    Accel.TCG: ("-accel", "tcg,thread=single", "-cpu", "max,la57=off,erms=off,fsrm=off"),
}
"""QEMU's arguments for each accelerator. The probe uses what the guests use."""


@dataclass(frozen=True, kw_only=True)
class AccelChoice:
    """The accelerator to use and why, in words for a run's header.

    ``probed_s`` is what the probe took, 0.0 when none was needed; ``cached`` is set when it ran
    earlier since the host booted.
    """

    accel: Accel
    reason: str
    probed_s: float = 0.0
    cached: bool = False

    def describe(self) -> str:
        """Return the accelerator and why it was chosen, in one line."""
        return f"{self.accel.value}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What probing an accelerator found. ``reason`` completes "it cannot be used: ..."."""

    usable: bool
    reason: str
    hint: str | None = None
    probed_s: float = 0.0
    cached: bool = False


def choose_accel(requested: str, deadline: Deadline) -> AccelChoice:
    """Return the accelerator for ``auto``, ``kvm`` or ``tcg``.

    ``auto`` is KVM when it can run a guest, else TCG, with the reason.
    Raises HarnessError when KVM is asked for and cannot run a guest, MissingTool without QEMU,
    UsageError for any other word.
    """
    if requested not in ("auto", *Accel):
        raise UsageError(
            f"there is no accelerator {requested!r}", hint="--accel takes auto, kvm or tcg"
        )
    find_program(QEMU)
    if requested == Accel.TCG:
        return AccelChoice(accel=Accel.TCG, reason="asked for")
    verdict = probe_kvm(deadline)
    if verdict.usable:
        accel, reason = Accel.KVM, verdict.reason
    elif requested == Accel.KVM:
        raise HarnessError(
            f"KVM was asked for and cannot be used: {verdict.reason}",
            hint=verdict.hint or "--accel tcg needs no support from the host, and is slower",
        )
    else:
        accel, reason = Accel.TCG, f"KVM cannot be used: {verdict.reason}"
    return AccelChoice(accel=accel, reason=reason, probed_s=verdict.probed_s, cached=verdict.cached)


def probe_kvm(deadline: Deadline) -> Verdict:
    """Return whether KVM can run a guest, by running one unless that was done since the boot.

    The verdict is kept in the cache, for all commands of this user.

    Raises MissingTool without QEMU, QemuFailed when QEMU cannot run a guest even without KVM.
    """
    device = KVM_DEVICE
    if not device.exists():
        return Verdict(usable=False, reason=f"there is no {device}")
    if not os.access(device, os.R_OK | os.W_OK):
        return Verdict(
            usable=False,
            reason=f"no permission to use {device}",
            hint=f"join the group that owns {device} (usually kvm), then log in again",
        )
    key = _cache_key(device)
    path = cache_root() / "accel" / f"kvm-{os.geteuid()}.json"
    known = _read_verdict(path, key)
    if known is not None:
        return known
    probe_deadline = deadline.within(_PROBE_S)
    verdict = run_probe(Accel.KVM, probe_deadline)
    if not verdict.usable:
        _require_working_qemu(deadline)
    elif verdict.probed_s > _QUICK_S:
        verdict = _unless_emulated(verdict, deadline)
    # A probe that the caller's deadline cut short says nothing about the time until the next boot.
    own_time_was_up = probe_deadline.at_s < deadline.at_s
    if verdict.usable or own_time_was_up or not probe_deadline.expired:
        _write_verdict(path, key, verdict)
    return verdict


def probe_argv(accel: Accel, image: Path) -> list[str]:
    """Return the command that boots the probe guest."""
    return [
        QEMU,
        *ACCEL_ARGUMENTS[accel],
        *("-machine", "pc", "-m", "16"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-chardev", "stdio,id=debug,signal=off"),
        *("-device", f"isa-debugcon,iobase={probe_guest.DEBUG_PORT:#x},chardev=debug"),
        *("-device", f"isa-debug-exit,iobase={probe_guest.EXIT_PORT:#x},iosize=0x4"),
        *("-kernel", str(image)),
    ]


def run_probe(accel: Accel, deadline: Deadline) -> Verdict:
    """Boot the probe guest and return whether it reached its end; raises MissingTool."""
    start = Deadline.after(0.0).at_s
    stages: list[str] = []
    with temporary_folder("probe") as folder:
        image = folder / "probe.bin"
        image.write_bytes(probe_guest.build_image())
        done: Finished | None
        try:
            done = run(
                probe_argv(accel, image), deadline=deadline, check=False, on_line=stages.append
            )
        except CommandTimeout:
            done = None
    seconds = Deadline.after(0.0).at_s - start
    usable, reason = judge(done, stages, seconds)
    return Verdict(usable=usable, reason=reason, probed_s=seconds)


def judge(done: Finished | None, lines: Sequence[str], seconds: float) -> tuple[bool, str]:
    """Return whether the probe guest ran, and the end of a sentence on how far it got.

    ``done`` is None when it had to be killed; ``lines`` is what QEMU and the guest printed.
    """
    if done is not None and done.returncode == probe_guest.EXIT_CODE and list(lines[-1:]) == ["T"]:
        return True, f"a probe guest ran in {seconds:.1f} s"
    reached = [probe_guest.STAGES[line] for line in lines if line in probe_guest.STAGES]
    where = f"after it reached {reached[-1]}" if reached else "before its first instruction"
    if done is None:
        return False, f"a probe guest hung {where} (killed after {seconds:.1f} s)"
    complaints = [
        line for line in lines if line.startswith((QEMU, "qemu")) and "warning" not in line
    ]
    if complaints:
        complaint = re.sub(r"^[\w./-]+: (error: )?", "", complaints[0])
        return False, f"QEMU says: {complaint}"
    return False, f"QEMU ended {where} with exit code {done.returncode}"


def _unless_emulated(verdict: Verdict, deadline: Deadline) -> Verdict:
    """Return a slow probe's verdict after a comparison with TCG, the better of two runs of each."""
    seconds = {Accel.KVM: verdict.probed_s, Accel.TCG: _PROBE_S}
    for accel in (Accel.TCG, Accel.KVM, Accel.TCG):
        again = run_probe(accel, deadline.within(_PROBE_S))
        if again.usable:
            seconds[accel] = min(seconds[accel], again.probed_s)
    if seconds[Accel.KVM] <= _TIMES_SLOWER * seconds[Accel.TCG]:
        return verdict
    reason = (
        f"a probe guest took {seconds[Accel.KVM]:.1f} s with it and {seconds[Accel.TCG]:.1f} s "
        "without, so it emulates what the processor should execute"
    )
    return Verdict(usable=False, reason=reason, probed_s=verdict.probed_s)


def _require_working_qemu(deadline: Deadline) -> None:
    """Run the probe guest under TCG: what fails there too is not KVM's fault."""
    control = run_probe(Accel.TCG, deadline.within(_PROBE_S))
    if not control.usable:
        raise QemuFailed(
            f"QEMU cannot run a guest, not even without KVM: {control.reason}",
            hint="is this host out of memory, or very busy? `klp-harness doctor` shows more",
        )


def _cache_key(device: Path) -> str:
    """Return a digest of all that a verdict depends on: boot, QEMU, device, user, what is run."""
    qemu = Path(find_program(QEMU)).resolve()
    program, node = qemu.stat(), device.stat()
    facts = [
        _FORMAT,
        boot_id(),
        [str(qemu), program.st_size, program.st_mtime_ns],
        [node.st_rdev, node.st_mode, node.st_uid, node.st_gid],
        [os.geteuid(), sorted(os.getgroups())],
        ACCEL_ARGUMENTS[Accel.KVM],
        hashlib.sha256(probe_guest.build_image()).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read_verdict(path: Path, key: str) -> Verdict | None:
    try:
        kept = json.loads(path.read_text())
        return Verdict(**kept["verdict"], cached=True) if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        # Missing or damaged: the probe runs again and writes it again.
        return None


def _write_verdict(path: Path, key: str, verdict: Verdict) -> None:
    found = {"usable": verdict.usable, "reason": verdict.reason, "probed_s": verdict.probed_s}
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_text(path, json.dumps({"key": key, "verdict": found}))
    except OSError as error:
        LOGGER.debug("cannot keep the probe's verdict in %s: %s", path, error.strerror)
