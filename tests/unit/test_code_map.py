# SPDX-License-Identifier: GPL-2.0-only
"""From addresses to lines: addr2line's output, branches, and code that is not the image's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.observer.code_map import branches_of, obtain_map, parse_addr2line
from harness.observer.debug_objects import _same, find_commands
from harness.observer.image import Instruction
from harness.vm.host.cache import Store

ADDR2LINE = """\
0x0000000000000000
klp_find_func
../kernel/livepatch/core.c:70
0x0000000000000010
list_empty
/src/include/linux/list.h:10 (discriminator 3)
klp_find_func
../kernel/livepatch/core.c:72
0x0000000000000020
??
??:?
"""


def test_addr2line_gives_the_inner_function_first() -> None:
    """An inlined one is followed by where it is inlined; an unknown line is 0."""
    assert parse_addr2line(ADDR2LINE) == {
        0x00: (("klp_find_func", "../kernel/livepatch/core.c", 70),),
        0x10: (
            ("list_empty", "/src/include/linux/list.h", 10),
            ("klp_find_func", "../kernel/livepatch/core.c", 72),
        ),
        0x20: (("??", "??", 0),),
    }


def insn(address: int, text: str) -> Instruction:
    return Instruction(address, b"\x90", text)


def testbranches_of_know_who_else_leads_there() -> None:
    """What follows a jump and is a target too does not show how often it was passed."""
    part = [
        insn(0x10, "test   %eax,%eax"),
        insn(0x12, "je     20 <f+0x10>"),
        insn(0x14, "inc    %eax"),
        insn(0x16, "jne    14 <f+0x4>"),
        insn(0x18, "jmp    10 <f>"),
        insn(0x20, "ret"),
    ]
    first, second = branches_of([part])
    assert (first.address, first.next, first.target) == (0x12, 0x14, 0x20)
    assert not first.alone_next  # the loop leads there
    assert first.alone_target  # the jmp before it does not fall through
    assert (second.alone_next, second.alone_target) == (True, False)


def test_an_indirect_jump_and_a_call_are_nobranches_of() -> None:
    """They have no target, or come back."""
    assert insn(0, "jmp    *%rax").target is None
    assert insn(0, "call   10 <f>").target is None
    assert insn(0, "jae    ffffffff81000010 <f+0x10>").target == 0xFFFFFFFF81000010


@pytest.mark.parametrize(
    ("ours", "theirs", "changed", "same"),
    [
        (b"\x01\x02\x03", b"\x01\x02\x03", (), True),
        (b"\x01\x02\x03", b"\x01\x09\x03", (), False),
        (b"\x01\x02\x03", b"\x01\x09\x03", (1,), True),
        (b"\x01\x02\x03", b"\x01\x02", (), False),
        (b"\xeb\x05\x03", b"\x66\x90\x03", (), True),
        (b"\xe9\x01\x02\x03\x04\x90", b"\x0f\x1f\x44\x00\x00\x90", (), True),
        (b"\x75\x05\x03", b"\x66\x90\x03", (), False),
    ],
)
def test_code_is_compared(ours: bytes, theirs: bytes, changed: tuple[int, ...], same: bool) -> None:
    """Relocations, and nops that objtool makes of jumps, are no difference; all else is."""
    assert _same(ours, theirs, frozenset(changed)) is same


def test_code_that_is_not_in_the_image_is_other_code() -> None:
    """An address that the image does not have."""
    assert not _same(b"\x01", None, frozenset())


def kernel(**facts: Any) -> Any:
    return SimpleNamespace(describe=lambda: "6.1.192 (here)", **facts)


def test_a_kernel_without_symbols_is_refused(tmp_path: Path) -> None:
    """Of a packaged kernel there is no vmlinux."""
    with pytest.raises(UsageError, match="comes without its symbols"):
        obtain_map(
            kernel(vmlinux=None),
            ["kernel/livepatch"],
            store=Store(tmp_path),
            deadline=Deadline.after(10),
        )


@pytest.mark.parametrize("name", ["kernel/nothing.c", "kernel/nothing", "../x.c", "/etc/x.c"])
def test_files_that_a_kernel_does_not_have(tmp_path: Path, name: str) -> None:
    """They are named, and where they would have to be."""
    with pytest.raises(UsageError, match=name):
        find_commands(kernel(build_dir=tmp_path), [name])


def test_commands_of_kbuild_are_found(tmp_path: Path) -> None:
    """Of a C file and of a folder; a folder has commands of other kinds too."""
    folder = tmp_path / "kernel/livepatch"
    folder.mkdir(parents=True)
    (folder / ".core.o.cmd").write_text("cmd_x := gcc -DA -c -o core.o ../core.c ; objtool x\n")
    (folder / ".built-in.a.cmd").write_text("cmd_x := ar rcs built-in.a core.o\n")
    (folder / ".patch.o.cmd").write_text("savedcmd_x := gcc -c -o patch.o ../patch.c\n")
    made = kernel(build_dir=tmp_path)
    assert [path.name for path in find_commands(made, ["kernel/livepatch/"])] == [
        ".core.o.cmd",
        ".patch.o.cmd",
    ]
    assert find_commands(made, ["kernel/livepatch/core.c"]) == (folder / ".core.o.cmd",)
