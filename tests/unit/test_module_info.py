# SPDX-License-Identifier: GPL-2.0-only
"""Modules read from their files: real ones, built from livepatch-modules/, and damaged copies."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.vm.elf.klp_structs import PatchContents, PatchedFunction
from harness.vm.elf.module_info import KlpRelocations, KlpSymbol, read_module
from harness.vm.host.process import run
from tests.unit.compiled_modules import HEAD, compiled

MODULES = Path(__file__).parent / "data/modules"


def test_a_livepatch_of_vmlinux() -> None:
    """Name, vermagic, parameters, and the one function that it patches."""
    info = read_module(MODULES / "klp_test_cmdline_a.ko")
    assert info.name == "klp_test_cmdline_a"
    assert info.is_livepatch
    assert info.vermagic == "6.1.192 SMP mod_unload"
    assert info.parameters == ("replace",)
    assert info.depends == ()
    assert info.patch == PatchContents(
        objects=("vmlinux",),
        functions=(PatchedFunction(object="vmlinux", name="cmdline_proc_show", sympos=0),),
    )
    assert "klp_enable_patch" in info.undefined


def test_a_livepatch_of_a_module_that_needs_it() -> None:
    """Several functions of one module, in order, and the dependency for its helper."""
    info = read_module(MODULES / "klp_test_gate.ko")
    assert info.depends == ("klp_target_gate",)
    assert info.patch is not None
    assert info.patch.objects == ("klp_target_gate",)
    assert [function.name for function in info.patch.functions] == [
        "klp_gate_wait",
        "klp_gate_wait_second",
        "klp_gate_wait_interruptible",
    ]


def test_objects_with_callbacks_and_no_functions() -> None:
    """Empty arrays of functions are told from arrays that are filled at run time."""
    info = read_module(MODULES / "klp_test_callbacks_a.ko")
    assert info.patch == PatchContents(
        objects=("vmlinux", "klp_target_mod", "klp_target_notrace"), functions=()
    )


def test_a_livepatch_that_is_filled_at_run_time() -> None:
    """What parameters decide is not guessed."""
    info = read_module(MODULES / "klp_test_symbol.ko")
    assert info.is_livepatch
    assert info.patch is None
    assert {"object", "function", "sympos"} <= set(info.parameters)


def test_targets() -> None:
    """Exports, twins under one name, and functions that ftrace cannot redirect."""
    gate = read_module(MODULES / "klp_target_gate.ko")
    assert not gate.is_livepatch
    assert gate.patch is None
    assert set(gate.exported) == {"klp_gate_sleep", "klp_gate_sleep_interruptible"}
    assert read_module(MODULES / "klp_target_twins.ko").symbols["klp_twin"] == (True, True)
    notrace = read_module(MODULES / "klp_target_notrace.ko")
    assert notrace.symbols["klp_traced"] == (True,)
    assert notrace.symbols["klp_untraced"] == (False,)


def test_sympos_and_a_name_in_the_middle(tmp_path: Path) -> None:
    """Several objects, with and without a name, sympos, and structures of another size."""
    source = (
        HEAD
        + """
    struct func { const char *name; void *body; unsigned long sympos; char rest[200]; };
    struct object { const char *name; struct func *funcs; void *callbacks[4]; char rest[250]; };
    struct patch { void *mod; struct object *objs; char rest[100]; };
    int callback(void *o) { asm volatile(""); return 0; }
    static struct func one[] = { { "f", body, 3 }, { "g", body }, { 0 } };
    static struct func two[] = { { "h", body, 1 }, { 0 } };
    static struct object objs[] = {
      { 0, one, { 0, callback } }, { "ext4", two, { callback, callback } }, { 0 } };
    struct patch patch = { __this_module, objs };
    """
    )
    info = read_module(compiled(tmp_path, source))
    assert info.patch == PatchContents(
        objects=("vmlinux", "ext4"),
        functions=(
            PatchedFunction(object="vmlinux", name="f", sympos=3),
            PatchedFunction(object="vmlinux", name="g", sympos=0),
            PatchedFunction(object="ext4", name="h", sympos=1),
        ),
    )


LISTS = """
struct func { const char *name; void *body; unsigned long sympos; char rest[128]; };
struct object { const char *name; struct func *funcs; void *callbacks[4]; char rest[128]; };
struct patch { void *mod; struct object *objs; char rest[100]; };
static struct func g[] = { { "g", body }, { 0 } };
"""
ONE = 'static struct func f[] = { { "f", body }, { 0 } };'
NO_END = "no empty entry at the end of the list of"
BEHIND = "behind the empty entry that ends the list of"


@pytest.mark.parametrize(
    ("structures", "objects", "functions", "faults"),
    [
        (ONE + "static struct object o[] = { { 0, f }, { 0 } };", 1, "f", ()),
        (ONE + 'static struct object o[] = { { 0, f }, { "m", g }, { 0 } };', 2, "fg", ()),
        (ONE + 'static struct object o[9] = { { 0, f }, { "m", g } };', 2, "fg", ()),
        (
            (
                'static struct func f[] = { { "f", body }, { 0 },'
                ' { "h", body }, { "i", body }, { 0 } };'
                "static struct object o[] = { { 0, f }, { 0 } };"
            ),
            *(1, "f", (f"h(), i() {BEHIND} functions of vmlinux",)),
        ),
        (
            (
                'static struct func f[] = { { 0 }, { "h", body } };'
                "static struct object o[] = { { 0, f }, { 0 } };"
            ),
            *(1, "", (f"h() {BEHIND} functions of vmlinux",)),
        ),
        (
            ONE + 'static struct object o[] = { { 0, f }, { 0 }, { "m", g }, { 0 } };',
            *(1, "f", (f"m {BEHIND} objects",)),
        ),
        (
            (
                'static struct func f[] = { { "f", body }, { "h", body } };'
                "static struct object o[] = { { 0, f }, { 0 } };"
            ),
            *(1, "fh", (f"{NO_END} functions of vmlinux",)),
        ),
        (
            ONE + 'static struct object o[] = { { 0, f }, { "m", g } };',
            *(2, "fg", (f"{NO_END} objects",)),
        ),
    ],
    ids=["one", "two", "room", "function", "first", "object", "functions-end", "objects-end"],
)
def test_a_list_ends_at_its_first_empty_entry(
    tmp_path: Path, structures: str, objects: int, functions: str, faults: tuple[str, ...]
) -> None:
    """klp_for_each_func_static() and klp_for_each_object_static() go no further."""
    source = HEAD + LISTS + structures + "struct patch patch = { __this_module, o };"
    patch = read_module(compiled(tmp_path, source)).patch
    assert patch is not None
    assert len(patch.objects) == objects
    assert "".join(function.name for function in patch.functions) == functions
    assert patch.list_faults == faults


@pytest.mark.parametrize(
    "structures",
    [
        "static struct func f[3]; struct object o[] = { { 0, f }, { 0 } };",
        "static struct func f[] = { { 0, body }, { 0 } }; struct object o[] = { { 0, f }, { 0 } };",
        'static struct func f[] = { { "f", 0 }, { 0 } }; struct object o[] = { { 0, f }, { 0 } };',
        "static struct object o[2];",
    ],
    ids=["all", "name", "body", "objects"],
)
def test_half_filled_structures_are_not_static(tmp_path: Path, structures: str) -> None:
    """Anything that the file leaves open makes the whole unreadable, rather than wrong."""
    source = (
        HEAD
        + """
    struct func { const char *name; void *body; unsigned long sympos; char rest[128]; };
    struct object { const char *name; struct func *funcs; void *callbacks[4]; char rest[128]; };
    struct patch { void *mod; struct object *objs; };
    """
    )
    source += structures + "struct patch patch = { __this_module, o };"
    assert read_module(compiled(tmp_path, source)).patch is None


def test_other_structures_with_this_module(tmp_path: Path) -> None:
    """file_operations also begin with THIS_MODULE; they are no patch, and do not hide it."""
    source = (
        HEAD
        + """
    struct fops { void *owner; int (*llseek)(void); };
    struct fops fops = { __this_module, body };
    """
    )
    assert read_module(compiled(tmp_path, source)).patch is None
    source += """
    struct func { const char *name; void *body; unsigned long sympos; char rest[128]; };
    struct object { const char *name; struct func *funcs; char rest[160]; };
    struct patch { void *mod; struct object *objs; };
    static struct func funcs[] = { { "f", body }, { 0 } };
    static struct object objs[] = { { 0, funcs }, { 0 } };
    struct patch patch = { __this_module, objs };
    """
    info = read_module(compiled(tmp_path, source))
    assert info.patch is not None
    assert [function.name for function in info.patch.functions] == ["f"]


def test_livepatch_relocations_and_symbols(tmp_path: Path) -> None:
    """Sections .klp.rela.OBJECT.SECTION and symbols .klp.sym.OBJECT.NAME,SYMPOS are taken apart."""
    source = (
        HEAD
        + """
    asm(".section .klp.rela.ext4.text.unlikely,\\"a\\"\\n.quad 0\\n.text");
    asm(".globl mark\\n.set mark, 0");
    """
    )
    path = compiled(tmp_path, source)
    content = bytearray(path.read_bytes())
    # The assembler cannot make SHN_LIVEPATCH: rename a symbol in the table, and give it that index.
    run(
        ["objcopy", "--redefine-sym", "mark=.klp.sym.ext4.ext4_sync_fs,2", path],
        deadline=Deadline.after(30),
    )
    content = bytearray(path.read_bytes())
    at = _symbol_at(content, b".klp.sym.ext4.ext4_sync_fs,2")
    struct.pack_into("<H", content, at + 6, 0xFF20)
    path.write_bytes(content)
    info = read_module(path)
    assert info.klp_relocations == (KlpRelocations(object="ext4", section=".text.unlikely"),)
    assert info.klp_symbols == (KlpSymbol(object="ext4", name="ext4_sync_fs", sympos=2),)


def _symbol_at(content: bytearray, name: bytes) -> int:
    """Return the offset of a symbol's entry in an ELF file's symbol table."""
    table, count = (
        struct.unpack_from("<Q", content, 40)[0],
        struct.unpack_from("<H", content, 60)[0],
    )
    headers = [struct.unpack_from("<IIQQQQIIQQ", content, table + 64 * i) for i in range(count)]
    symtab = next(header for header in headers if header[1] == 2)
    strings = headers[symtab[6]]
    for at in range(symtab[4], symtab[4] + symtab[5], 24):
        start = strings[4] + struct.unpack_from("<I", content, at)[0]
        if content[start : content.index(0, start)] == name:
            return at
    raise AssertionError(f"no symbol {name!r}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\n", "not an ELF file"),
        (b"\x7fELF\x02\x01\x01", "cut off within its ELF header"),
        (b"\xfd7zXZ\x00data", "is compressed"),
        (b"\x28\xb5\x2f\xfddata", "is compressed"),
    ],
)
def test_what_is_no_module(tmp_path: Path, content: bytes, said: str) -> None:
    """Each is refused with a sentence that says what it is instead."""
    (tmp_path / "x.ko").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_module(tmp_path / "x.ko")


def test_a_missing_file(tmp_path: Path) -> None:
    """A path that leads nowhere is wrong usage."""
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_module(tmp_path / "x.ko")


def test_another_machine(tmp_path: Path) -> None:
    """A module for arm64 is named as that."""
    content = bytearray((MODULES / "klp_test_cmdline_a.ko").read_bytes())
    struct.pack_into("<H", content, 18, 183)
    (tmp_path / "x.ko").write_bytes(content)
    with pytest.raises(UsageError, match=r"another machine \(AARCH64, 64 bits\)"):
        read_module(tmp_path / "x.ko")


def test_programs_and_object_files(tmp_path: Path) -> None:
    """A program is ELF as well, and an object file is no module before modpost."""
    (tmp_path / "x.c").write_text("int main(void) { return 0; }\n")
    run(["gcc", tmp_path / "x.c", "-o", tmp_path / "x"], deadline=Deadline.after(30))
    run(["gcc", "-c", tmp_path / "x.c", "-o", tmp_path / "x.o"], deadline=Deadline.after(30))
    with pytest.raises(UsageError, match="linked program or library"):
        read_module(tmp_path / "x")
    with pytest.raises(UsageError, match=r"no kernel module: it has no \.modinfo"):
        read_module(tmp_path / "x.o")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    """However short the file is cut, it is refused as wrong usage and nothing else."""
    whole = (MODULES / "klp_test_cmdline_a.ko").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "x.ko").write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"cut off|empty|not an ELF"):
            read_module(tmp_path / "x.ko")


def test_damaged_section_headers(tmp_path: Path) -> None:
    """Any offset, size or link of any section may be wrong: read or refused, nothing else."""
    whole = (MODULES / "klp_test_cmdline_a.ko").read_bytes()
    table, count = struct.unpack_from("<Q", whole, 40)[0], struct.unpack_from("<H", whole, 60)[0]
    refused = 0
    for section in range(count):
        for field, form in ((24, "<Q"), (32, "<Q"), (40, "<I")):
            for value in (0, 1 << 31):
                content = bytearray(whole)
                struct.pack_into(form, content, table + 64 * section + field, value)
                (tmp_path / "x.ko").write_bytes(content)
                try:
                    read_module(tmp_path / "x.ko")
                except UsageError:
                    refused += 1
    assert refused > count


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are overwritten: the reader answers, or refuses, and never breaks."""
    content = bytearray((MODULES / "klp_target_twins.ko").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damage") / "x.ko"
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        read_module(path)
