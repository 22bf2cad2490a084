# SPDX-License-Identifier: GPL-2.0-only
"""Points of a kernel's image, as addresses; the image is made of a few functions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.tools.race.explore.kernel_code import KernelCode
from harness.tools.race.explore.points import Point, parse_hold
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.kernel.kernel import Kernel

TEXT = 0xFFFFFFFF81000000
SOURCE = """
    .text
    .globl _stext, twice, klp_enable_patch, klp_copy_process, plain_show, klp_last, mutex_lock
    .macro function name
    .balign 16, 0xcc
    .type \\name, @function
    \\name:
    .endm
_stext:
    function mutex_lock
    ret
    .size mutex_lock, . - mutex_lock
    function _printk
    ret
    .size _printk, . - _printk
    .balign 8192, 0xcc
    function klp_enable_patch
    call mutex_lock
    call _printk
    movl $1, (%rdi)
    movl %eax, 8(%rsp)
    lea 4(%rdi), %rax
    call mutex_lock
    call plain_show
    ret
    .size klp_enable_patch, . - klp_enable_patch
    function plain_show
    ret
    .size plain_show, . - plain_show
    function klp_last
    jz 1f
    ret
1:  ret
    .size klp_last, . - klp_last
    function __tsan_read8
    ret
    .size __tsan_read8, . - __tsan_read8
    function __tsan_volatile_read8
    ret
    .size __tsan_volatile_read8, . - __tsan_volatile_read8
    function klp_watched
    call __tsan_read8
    movl $1, (%rdi)
    call __tsan_volatile_read8
    call mutex_lock
    ret
    .size klp_watched, . - klp_watched
    .balign 8192, 0xcc
    function klp_far
    ret
    .size klp_far, . - klp_far
    .data
    .globl current_task
current_task: .quad 0
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked(tmp_path_factory.mktemp("image"), SOURCE)


def linked(folder: Path, source: str) -> Path:
    (folder / "image.s").write_text(source)
    command = ["gcc", "-nostdlib", "-static", "-no-pie", f"-Wl,-Ttext={TEXT:#x},-e,_stext"]
    run([*command, "-o", folder / "vmlinux", folder / "image.s"], deadline=Deadline.after(60))
    return folder / "vmlinux"


@pytest.fixture
def code(image: Path) -> KernelCode:
    return code_of(image)


def code_of(image: Path, *options: str) -> KernelCode:
    config = SimpleNamespace(enabled=options.__contains__)
    return KernelCode(cast("Kernel", SimpleNamespace(vmlinux=image, config=config)))


def at(code: KernelCode, text: str) -> list[str]:
    return sorted(code.where(each) for each in code.addresses(parse_hold(text).a.place))


def test_a_kernel_without_symbols_is_refused() -> None:
    """In one sentence, as wrong usage."""
    packaged = SimpleNamespace(vmlinux=None, describe=lambda: "6.1")
    with pytest.raises(UsageError, match="without its symbols"):
        KernelCode(cast("Kernel", packaged))


def test_points_are_addresses(code: KernelCode) -> None:
    """A call is a point wherever its function makes it; so is a return."""
    assert at(code, "klp_enable_patch") == ["klp_enable_patch"]
    assert at(code, "klp_enable_patch+0x5#2") == ["klp_enable_patch+0x5"]
    assert len(at(code, "call of mutex_lock in klp_enable_patch")) == 2
    assert at(code, "call of plain_show in klp_enable_patch#3") == ["klp_enable_patch+0x1d"]
    assert at(code, "return of klp_last") == ["klp_last+0x2", "klp_last+0x3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("klp_none", "no function klp_none"),
        ("klp_last+0x40", "behind the end of klp_last"),
        ("call of klp_last in klp_enable_patch", "does not call klp_last"),
        ("klp_last -> klp_none", "no function klp_none"),
    ],
)
def test_a_point_that_the_kernel_does_not_have(code: KernelCode, text: str, message: str) -> None:
    """It is refused before a guest is started."""
    with pytest.raises(UsageError, match=message):
        code.check(parse_hold(text))


def test_the_functions_of_livepatching(code: KernelCode) -> None:
    """They lie together; one that is called klp_something elsewhere is not among them."""
    assert code.livepatch_functions() == (
        *("klp_enable_patch", "plain_show", "klp_last"),
        *("__tsan_read8", "__tsan_volatile_read8", "klp_watched"),
    )


def test_points_inside_a_function(code: KernelCode) -> None:
    """Calls, but not of what only prints; and with all accesses those to memory, and returns."""
    plain = code.inside("klp_enable_patch", dense=False)
    assert [str(point) for point in plain.values()] == [
        "call of mutex_lock in klp_enable_patch",
        "call of mutex_lock in klp_enable_patch",
        "call of plain_show in klp_enable_patch",
    ]
    dense = code.inside("klp_enable_patch", dense=True)
    assert {str(point) for point in set(dense.values()) - set(plain.values())} == {
        "klp_enable_patch+0xa",
        "return of klp_enable_patch",
    }
    assert code.entries(("klp_last", "klp_none")).keys() == code.addresses(
        Point(function="klp_last")
    )


def test_accesses_that_kcsan_watches(image: Path, code: KernelCode) -> None:
    """Plain ones, in place of all accesses to memory; other kernels have none, and say so."""
    with_kcsan = code_of(image, "KCSAN")
    assert {str(each) for each in with_kcsan.inside("klp_watched", dense=True).values()} == {
        "klp_watched@watched",
        "call of mutex_lock in klp_watched",
    }
    assert [str(each) for each in with_kcsan.inside("klp_watched", dense=False).values()] == [
        "call of mutex_lock in klp_watched"
    ]
    hold = parse_hold("klp_watched@watched")
    with_kcsan.check(hold)
    with pytest.raises(UsageError, match="no KCSAN") as refused:
        code.check(hold)
    assert "--kernel-config kcsan" in str(refused.value.hint)


def test_a_kernel_at_another_address(code: KernelCode) -> None:
    """With CONFIG_RANDOMIZE_BASE all of it lies higher; modules have names of their own."""
    slide = 0x2000000
    code.take_start(f"{TEXT + slide:x} T _stext\n")
    assert code.slide == slide
    code.modules = ((0xFFFFFFFFA0000100, "klp_new"),)
    (address,) = code.addresses(Point(function="klp_last"))
    assert code.where(address) == "klp_last"
    assert code.where(0xFFFFFFFFA0000104) == "klp_new+0x4"
    assert code.function_at(0xFFFFFFFFA0000104) == "klp_new"
    assert code.where(0x1000) == "user mode"
    assert code.where(TEXT + 0x1000) == hex(TEXT + 0x1000)
    assert address - 0x40 < code.padding() < address + 0x40


def test_padding_of_long_nops(tmp_path: Path) -> None:
    """The assembler fills gaps with them, and so does the linker; none is an error."""
    code = code_of(linked(tmp_path, SOURCE.replace(", 0xcc", "")))
    (address,) = code.addresses(Point(function="klp_last"))
    assert abs(code.padding() - address) < 0x40
    packed = SOURCE.replace(".balign 16, 0xcc", ".balign 1")
    with pytest.raises(HarnessError, match="no padding"):
        code_of(linked(tmp_path, packed)).padding()
