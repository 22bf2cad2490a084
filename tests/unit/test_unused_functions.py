# SPDX-License-Identifier: GPL-2.0-only
"""Functions of a module that nothing leads to, and the ways that there are to the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.module_mutation.operators import choose
from benchmarks.module_mutation.patch_file import LivepatchFile
from benchmarks.module_mutation.substitutes import Substitutes
from harness.vm.elf.module_info import read_module
from harness.vm.elf.unused_functions import unused_functions
from tests.unit.test_module_info import HEAD, compiled

MODULES = Path(__file__).parent / "data/modules"
STRUCTS = """
struct func { const char *name; void *body; unsigned long sympos; char rest[128]; };
struct object { const char *name; struct func *funcs; void *callbacks[4]; char rest[128]; };
struct patch { void *mod; struct object *objs; char rest[100]; };
__attribute__((noipa)) int lost(void) { asm volatile(""); return 2; }
"""
LISTED = """
static struct func f[] = { { "f", body }, { 0 } };
static struct object o[] = { { 0, f }, { 0 } };
struct patch patch = { __this_module, o };
"""


def unused(folder: Path, *more: str) -> tuple[str, ...]:
    return unused_functions(compiled(folder, "".join((HEAD, STRUCTS, LISTED, *more))))


@pytest.mark.parametrize("path", sorted(MODULES.glob("klp_test_*.ko")), ids=lambda path: path.stem)
def test_each_function_of_a_good_livepatch_is_come_to(path: Path) -> None:
    assert unused_functions(path) == ()


def test_a_body_without_an_entry_is_found(tmp_path: Path) -> None:
    """That ftrace and the unwinder know it leads nowhere."""
    assert unused(tmp_path) == ("lost",)


def test_what_only_an_unused_body_calls_is_unused_too(tmp_path: Path) -> None:
    """And one that calls itself is no better for it."""
    found = unused(
        tmp_path,
        """
        __attribute__((noinline)) static int helper(int x) { asm volatile(""); return x + 1; }
        int forgotten(int x) { return x ? forgotten(x - 1) * helper(x) : 2; }
        """,
    )
    assert set(found) == {"lost", "helper", "forgotten"}


@pytest.mark.parametrize(
    "way",
    [
        "int caller(void) { return lost() + 1; } int (*entry)(void) = caller;",
        "int caller(void) { return lost(); } int (*entry)(void) = caller;",
        "int (*entry)(void) = lost;",
        "const struct { char c; int (*f)(void); } ops = { 1, lost };",
        "void *caller(void) { return lost; } void *(*entry)(void) = caller;",
        'int __attribute__((section(".init.text"))) start(void) { return lost() + 1; }',
        'asm(".section __ksymtab, \\"a\\"\\n.long lost - .\\n.text");',
        'int __attribute__((alias("lost"))) init_module(void); int (*entry)(void) = init_module;',
        (
            "int __attribute__((cold, noinline)) rare(void) { return lost() + 1; }"
            "int caller(int x) { return x ? rare() : 0; } int (*entry)(int) = caller;"
        ),
    ],
    ids=["call", "tail", "pointer", "ops", "address", "init", "export", "alias", "cold"],
)
def test_there_are_many_ways_to_a_function(tmp_path: Path, way: str) -> None:
    assert unused(tmp_path, way) == ()


def test_a_distance_that_a_relocation_fills_is_none_before(tmp_path: Path) -> None:
    """Zeroes at the end of a function would lead to the next one."""
    source = """
    extern int outside(void);
    asm(".text\\n.globl first, second\\n"
        ".type first, @function\\nfirst: jmp outside\\n.size first, . - first\\n"
        ".type second, @function\\nsecond: ret\\n.size second, . - second");
    extern int first(void);
    int (*entry)(void) = first;
    """
    assert unused(tmp_path, source) == ("lost", "second")


def test_a_list_that_no_object_has_leads_nowhere(tmp_path: Path) -> None:
    """Which is what is left of an object that the patch does not list."""
    forgotten = 'struct func g[] = { { "g", lost }, { 0 } };'
    assert unused(tmp_path, forgotten) == ("lost",)
    assert unused(tmp_path, forgotten, "struct func *used = g;") == ()
    other = "struct { int number; int (*f)(void); char rest[300]; } table = { 1, lost };"
    assert unused(tmp_path, other) == ()


@pytest.mark.parametrize("kind", ["omitted-function", "omitted-object"])
def test_a_mutant_whose_list_ends_too_early_is_noticed(tmp_path: Path, kind: str) -> None:
    source = "".join(
        (
            *(HEAD, STRUCTS, 'int another(void) { asm volatile(""); return 3; }'),
            'static struct func f[] = { { "f", body }, { 0 } };',
            'static struct func g[] = { { "g", lost }, { "h", another }, { 0 } };',
            'static struct object o[] = { { 0, f }, { "m", g }, { 0 } };',
            "struct patch patch = { __this_module, o };",
        )
    )
    path = compiled(tmp_path, source)
    assert unused_functions(path) == ()
    content = path.read_bytes()
    (operator,) = choose([kind])
    *_, mutation = operator.find(LivepatchFile(content, "it"), Substitutes(None, []))
    file = LivepatchFile(content, "it")
    mutation.edit(file)
    path.write_bytes(file.elf.content())
    assert read_module(path).is_livepatch
    wanted = ("another",) if kind == "omitted-function" else ("lost", "another")
    assert unused_functions(path) == wanted
