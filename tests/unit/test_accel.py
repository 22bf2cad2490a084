# SPDX-License-Identifier: GPL-2.0-only
"""The choice of the accelerator, and the guest that decides it."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError, MissingTool, QemuFailed, UsageError
from harness.vm.host import accel, files, probe_guest
from harness.vm.host.accel import Accel, Verdict, choose_accel, judge, probe_kvm
from harness.vm.host.process import Finished, run

if TYPE_CHECKING:
    from pathlib import Path

GOOD = Verdict(usable=True, reason="a probe guest ran in 0.3 s", probed_s=0.3)
BAD = Verdict(usable=False, reason="QEMU says: failed to set MSR 0x10a to 0x69", probed_s=0.1)


def soon() -> Deadline:
    return Deadline.after(30)


def finished(code: int) -> Finished:
    return Finished(argv=("qemu",), returncode=code, stdout="", stderr="", seconds=0.1)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something that opens as /dev/kvm does, a QEMU that is only a file, and an empty cache."""
    qemu = tmp_path / "bin" / accel.QEMU
    qemu.parent.mkdir()
    qemu.write_text("#!/bin/sh\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{qemu.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(tmp_path / "cache"))
    kvm = tmp_path / "kvm"
    kvm.touch(mode=0o600)
    monkeypatch.setattr(accel, "KVM_DEVICE", kvm)
    return kvm


class Probes:
    """Stands in for booting the probe guest, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kvm: Verdict, tcg: Verdict = GOOD) -> None:
        self.asked: list[Accel] = []
        self._verdicts = {Accel.KVM: kvm, Accel.TCG: tcg}
        monkeypatch.setattr(accel, "run_probe", self)

    def __call__(self, which: Accel, deadline: Deadline) -> Verdict:
        self.asked.append(which)
        return self._verdicts[which]


def disassembled(code: bytes, *, machine: str, tmp_path: Path) -> list[str]:
    raw = tmp_path / "code.bin"
    raw.write_bytes(code)
    listing = run(
        ["objdump", "-D", "-z", "-b", "binary", "-m", "i386", "-M", f"intel,{machine}", raw],
        deadline=soon(),
    ).stdout
    found = re.findall(r"^ +[0-9a-f]+:\t((?:[0-9a-f]{2} )+) *\t?(.*)$", listing, re.MULTILINE)
    instructions: list[str] = []
    for _, text in found:
        if text:  # a continuation line has bytes only
            instructions.append(re.sub(r"\s+", " ", text.partition("#")[0]).strip())
    return instructions


@pytest.mark.parametrize("part", ["CODE_32", "CODE_64", "ON_INVALID_OPCODE", "ON_TIMER"])
def test_probe_guest_bytes_mean_what_is_written_beside_them(part: str, tmp_path: Path) -> None:
    """The machine code was assembled by hand; objdump reads it back."""
    code: probe_guest.Code = getattr(probe_guest, part)
    machine = "i386" if part == "CODE_32" else "x86-64"
    listed = disassembled(probe_guest.assemble(code), machine=machine, tmp_path=tmp_path)
    # A relative jump is listed by its target, which depends on where the piece is put.
    expected = [re.sub(r"^jmp -1$", "jmp", text) for _, text in code]
    assert [re.sub(r"^jmp 0x[0-9a-f]+$", "jmp", text) for text in listed] == expected


def test_probe_image_has_a_multiboot_header() -> None:
    """QEMU loads the probe as a multiboot image and enters it at its first instruction."""
    image = probe_guest.build_image()
    words = [int.from_bytes(image[at : at + 4], "little") for at in range(0, 32, 4)]
    assert words[0] == 0x1BADB002
    assert sum(words[:3]) & 0xFFFFFFFF == 0
    assert words[7] == probe_guest.LOAD_ADDRESS + 0x20
    assert image[0x20] == 0xFA, "the entry point is the first instruction"


@pytest.mark.parametrize(
    ("done", "lines", "reason"),
    [
        (None, [], "a probe guest hung before its first instruction (killed after 2.0 s)"),
        (None, ["P"], "a probe guest hung after it reached protected mode (killed after 2.0 s)"),
        (
            finished(-6),
            [
                "qemu-system-x86_64: warning: host doesn't support requested feature",
                "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69",
                "qemu-system-x86_64: ../../target/i386/kvm/kvm.c: Assertion failed.",
            ],
            "QEMU says: failed to set MSR 0x10a to 0x69",
        ),
        (finished(0), ["P", "L"], "QEMU ended after it reached long mode with exit code 0"),
        (finished(1), [], "QEMU ended before its first instruction with exit code 1"),
    ],
)
def test_judge_says_why_not(done: Finished | None, lines: list[str], reason: str) -> None:
    """Each way in which a probe guest fails has its own reason, with the stage that it reached."""
    assert judge(done, lines, 2.0) == (False, reason)


def test_judge_wants_exit_code_and_last_stage() -> None:
    """Neither the exit code alone nor the stages alone prove that the guest came to its end."""
    assert judge(finished(probe_guest.EXIT_CODE), ["P", "L", "E", "T"], 0.2)[0]
    assert not judge(finished(probe_guest.EXIT_CODE), ["P"], 0.2)[0]
    assert not judge(finished(0), ["P", "L", "E", "T"], 0.2)[0]


def test_auto_takes_kvm_that_works(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KVM that ran the probe guest is used."""
    Probes(monkeypatch, GOOD)
    choice = choose_accel("auto", soon())
    assert choice.accel is Accel.KVM
    assert not choice.cached


def seconds(probed_s: float) -> Verdict:
    return replace(GOOD, probed_s=probed_s)


@pytest.mark.parametrize(
    ("kvm", "tcg", "taken"),
    [
        (seconds(3.4), seconds(0.1), False),
        (seconds(3.4), seconds(0.5), True),
        (seconds(3.4), BAD, True),
        (seconds(0.9), seconds(0.1), True),
    ],
)
def test_kvm_that_emulates_the_processor_is_not_taken(
    kvm: Verdict, tcg: Verdict, taken: bool, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs the probe guest, many times slower than TCG does; a busy host slows both."""
    probes = Probes(monkeypatch, kvm, tcg=tcg)
    choice = choose_accel("auto", soon())
    assert (choice.accel is Accel.KVM) is taken
    if not taken:
        assert "took 3.4 s with it and 0.1 s without" in choice.reason
    if kvm.probed_s < 1:
        assert probes.asked == [Accel.KVM]
    assert choose_accel("auto", soon()).cached


def test_a_probe_that_was_slow_by_chance_is_tried_again(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The better of two runs counts."""
    runs = iter([seconds(3.4), seconds(0.1), seconds(0.2), seconds(0.1)])
    monkeypatch.setattr(accel, "run_probe", lambda *_: next(runs))
    assert choose_accel("auto", soon()).accel is Accel.KVM


def test_auto_falls_back_with_one_clear_line(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that opens and cannot run a guest ends in TCG, and says why in one line."""
    Probes(monkeypatch, BAD)
    choice = choose_accel("auto", soon())
    assert choice.accel is Accel.TCG
    assert choice.reason == f"KVM cannot be used: {BAD.reason}"
    assert "\n" not in choice.reason


def test_kvm_asked_for_is_never_replaced(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for KVM gets it or an error, never a slower guest."""
    Probes(monkeypatch, BAD)
    with pytest.raises(HarnessError, match="KVM was asked for and cannot be used: QEMU says"):
        choose_accel("kvm", soon())


def test_tcg_asked_for_needs_no_probe(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TCG works wherever QEMU does: asking for it costs no time."""
    probes = Probes(monkeypatch, GOOD)
    assert choose_accel("tcg", soon()).accel is Accel.TCG
    assert probes.asked == []


def test_unknown_word() -> None:
    """A mistyped accelerator is wrong usage."""
    with pytest.raises(UsageError, match="no accelerator 'xen'"):
        choose_accel("xen", soon())


def test_no_device(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /dev/kvm nothing is probed, and the reason says so."""
    probes = Probes(monkeypatch, GOOD)
    device.unlink()
    choice = choose_accel("auto", soon())
    assert choice.accel is Accel.TCG
    assert "there is no" in choice.reason
    assert probes.asked == []


def test_no_permission_names_the_group(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who may not open the device is told which group to join."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    verdict = probe_kvm(soon())
    assert "no permission" in verdict.reason
    assert verdict.hint is not None
    assert "group" in verdict.hint


def test_missing_qemu_is_no_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without QEMU no accelerator works, and the error names the program."""
    monkeypatch.setattr(accel, "QEMU", "qemu-that-is-not-there")
    for requested in ("auto", "kvm", "tcg"):
        with pytest.raises(MissingTool):
            choose_accel(requested, soon())


def test_failure_without_kvm_too_is_not_blamed_on_kvm(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A QEMU that runs nothing at all is its own failure, and no verdict on KVM is kept."""
    Probes(monkeypatch, BAD, tcg=BAD)
    with pytest.raises(QemuFailed, match="not even without KVM"):
        choose_accel("auto", soon())
    assert not (tmp_path / "cache" / "accel").exists()


def test_verdict_is_kept_for_this_boot(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A hanging probe costs its deadline once, until the host boots again."""
    probes = Probes(monkeypatch, BAD)
    first = choose_accel("auto", soon())
    again = choose_accel("auto", soon())
    assert probes.asked == [Accel.KVM, Accel.TCG]
    assert (first.cached, again.cached) == (False, True)
    assert again.reason == first.reason
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n")
    monkeypatch.setattr(files, "BOOT_ID", boot)
    assert not choose_accel("auto", soon()).cached


@pytest.mark.parametrize("change", ["permission", "qemu", "damage"])
def test_verdict_does_not_outlive_what_it_was_made_of(
    change: str, device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A change of the device, of QEMU or of the kept file makes the probe run again."""
    Probes(monkeypatch, GOOD)
    choose_accel("auto", soon())
    if change == "permission":
        device.chmod(0o666)
    elif change == "qemu":
        (tmp_path / "bin" / accel.QEMU).write_text("#!/bin/sh\n# upgraded\n")
    else:
        (kept,) = (tmp_path / "cache" / "accel").iterdir()
        kept.write_text('{"key": ')
    assert not choose_accel("auto", soon()).cached
    assert choose_accel("auto", soon()).cached


def test_kept_verdict_is_private(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Other users can neither read nor change what decides how our guests run."""
    Probes(monkeypatch, GOOD)
    choose_accel("auto", soon())
    (kept,) = (tmp_path / "cache" / "accel").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_verdict_of_a_probe_cut_short_is_not_kept(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller in a hurry must not condemn KVM until the host boots again."""
    probes = Probes(monkeypatch, BAD)
    probe_kvm(Deadline.after(0))
    assert not probe_kvm(soon()).cached
    assert probes.asked.count(Accel.KVM) == 2


def test_unwritable_cache_costs_only_the_probe(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cache that cannot be written is no reason to fail."""
    blocker = tmp_path / "file"
    blocker.touch()
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(blocker / "cache"))
    Probes(monkeypatch, GOOD)
    assert choose_accel("auto", soon()).accel is Accel.KVM
