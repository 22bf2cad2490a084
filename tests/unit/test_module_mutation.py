# SPDX-License-Identifier: GPL-2.0-only
"""Module mutants: each kind changes what it says in a real module, and nothing else."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile

from benchmarks.module_mutation.operators import OPERATORS, Mutation, choose
from benchmarks.module_mutation.patch_file import Callback, LivepatchFile
from benchmarks.module_mutation.subjects import CHECKS, SOURCES, read_manifest
from benchmarks.module_mutation.substitutes import Substitutes
from harness.errors import UsageError
from harness.resources import Resource, resource_dir
from harness.vm.elf.elf_file import ElfFile
from harness.vm.elf.klp_structs import SYMPOS, locate_patch
from harness.vm.elf.livepatch_relocation import LivepatchRelocation, with_livepatch_relocation
from harness.vm.elf.module_info import ModuleInfo, read_module
from tests.unit.compiled_modules import HEAD, compiled

if TYPE_CHECKING:
    from collections.abc import Callable

MODULES = Path(__file__).parent / "data/modules"
GATE = (MODULES / "klp_test_gate.ko").read_bytes()
CMDLINE = (MODULES / "klp_test_cmdline_a.ko").read_bytes()
CALLBACKS = (MODULES / "klp_test_callbacks_a.ko").read_bytes()
TARGET = read_module(MODULES / "klp_target_gate.ko")
BESIDE = Substitutes(None, [TARGET])
BODIES = ["klp_test_gate_wait", "klp_test_gate_wait_second", "klp_test_gate_wait_interruptible"]
STRUCTS = """
struct func { const char *name; void *body; unsigned long sympos; char rest[120]; };
struct object { const char *name; struct func *funcs; void *callbacks[4]; char rest[150]; };
struct state { unsigned long id; unsigned int version; void *data; };
struct patch { void *mod; struct object *objs; struct state *states; char replace; char rest[99]; };
"""


def mutations(kind: str, content: bytes, beside: Substitutes = BESIDE) -> list[Mutation]:
    (operator,) = choose([kind])
    return list(operator.find(LivepatchFile(content, "it"), beside))


def mutated(content: bytes, mutation: Mutation) -> bytes:
    file = LivepatchFile(content, "it")
    mutation.edit(file)
    return file.elf.content()


def read(content: bytes, folder: Path) -> ModuleInfo:
    path = folder / "it.ko"
    path.write_bytes(content)
    return read_module(path)


def pointees(content: bytes, offsets: Callable[[Any], list[int]]) -> list[str | None]:
    """Return the functions that pointers lead to, as pyelftools reads them; None for NULL."""
    elf: Any = ELFFile(io.BytesIO(content))
    layout = locate_patch(ElfFile(content))
    assert layout is not None
    table = elf.get_section_by_name(".symtab")
    functions = {
        (symbol["st_shndx"], symbol["st_value"]): symbol.name
        for symbol in table.iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC"
    }
    found: list[str | None] = []
    pointers = {
        relocation["r_offset"]: relocation
        for section in elf.iter_sections()
        if section["sh_type"] == "SHT_RELA" and section["sh_info"] == layout.section
        for relocation in section.iter_relocations()
        if relocation["r_info_type"]
    }
    for offset in offsets(layout):
        relocation = pointers.get(offset)
        if relocation is None:
            found.append(None)
            continue
        symbol = table.get_symbol(relocation["r_info_sym"])
        where = symbol["st_value"] + relocation["r_addend"]
        found.append(functions[(symbol["st_shndx"], where)])
    return found


def bodies(content: bytes) -> list[str | None]:
    return pointees(
        content, lambda layout: [f.offset + 8 for each in layout.objects for f in each.functions]
    )


def callbacks(content: bytes) -> list[str | None]:
    """Return the callbacks of the first object, in the order of struct klp_callbacks."""
    return pointees(
        content, lambda layout: [layout.objects[0].offset + each.value for each in Callback]
    )


def names(info: ModuleInfo) -> list[str]:
    assert info.patch is not None
    return [function.name for function in info.patch.functions]


def test_swapped_bodies() -> None:
    """Each function of a pair has the other's body, and the third has its own."""
    assert bodies(GATE) == BODIES
    first, second = mutations("swapped-bodies", GATE)
    assert bodies(mutated(GATE, first)) == [BODIES[1], BODIES[0], BODIES[2]]
    assert bodies(mutated(GATE, second)) == [BODIES[0], BODIES[2], BODIES[1]]
    assert mutations("swapped-bodies", CMDLINE) == []


def test_other_body() -> None:
    """One body answers for two functions."""
    first, _ = mutations("other-body", GATE)
    assert bodies(mutated(GATE, first)) == [BODIES[0], BODIES[0], BODIES[2]]


def test_functions_with_one_body_cannot_be_exchanged(tmp_path: Path) -> None:
    """Nobody could see it."""
    source = (
        HEAD
        + STRUCTS
        + 'static struct func f[] = { { "f", body }, { "g", body }, { 0 } };'
        + "static struct object o[] = { { 0, f }, { 0 } };"
        + "struct patch patch = { __this_module, o };"
    )
    content = compiled(tmp_path, source).read_bytes()
    assert mutations("swapped-bodies", content) == []
    assert mutations("other-body", content) == []


def test_other_name(tmp_path: Path) -> None:
    """A function of the target that is spelt alike, that can be traced and is not patched."""
    first, *others = mutations("other-name", GATE)
    assert len(others) == 2
    info = read(mutated(GATE, first), tmp_path)
    assert names(info) == ["klp_gate_wait_plain", *names(read(GATE, tmp_path))[1:]]
    assert TARGET.symbols["klp_gate_wait_plain"] == (True,)
    assert mutations("other-name", GATE, Substitutes(None, [])) == []


def test_other_object(tmp_path: Path) -> None:
    """The name of the object changes, and that of nothing else: vmlinux has none."""
    (only,) = mutations("other-object", GATE)
    info = read(mutated(GATE, only), tmp_path)
    assert info.patch is not None
    assert info.patch.objects == ("klp_target_gate_gone",)
    assert names(info) == names(read(GATE, tmp_path))
    assert mutations("other-object", CMDLINE) == []


def test_other_sympos(tmp_path: Path) -> None:
    """The next of those that there are; a name that is unique, or not chosen, is left alone."""
    file = LivepatchFile(GATE, "it")
    place = file.functions[0]
    file.elf.set_word(place.section, place.offset + SYMPOS, 2)
    chosen = file.elf.content()
    twins = replace(TARGET, symbols={**TARGET.symbols, "klp_gate_wait": (True, True)})
    (only,) = mutations("other-sympos", chosen, Substitutes(None, [twins]))
    info = read(mutated(chosen, only), tmp_path)
    assert info.patch is not None
    assert [function.sympos for function in info.patch.functions] == [1, 0, 0]
    assert mutations("other-sympos", chosen) == []
    assert mutations("other-sympos", GATE, Substitutes(None, [twins])) == []


def test_omitted_function(tmp_path: Path) -> None:
    """The list ends one earlier: name, body and sympos of the last are gone."""
    (only,) = mutations("omitted-function", GATE)
    info = read(mutated(GATE, only), tmp_path)
    assert names(info) == names(read(GATE, tmp_path))[:-1]
    assert bodies(mutated(GATE, only)) == BODIES[:-1]


def test_omitted_object(tmp_path: Path) -> None:
    """The list ends one earlier, and nothing of the last object is left to be found."""
    (only,) = mutations("omitted-object", CALLBACKS)
    info = read(mutated(CALLBACKS, only), tmp_path)
    assert info.patch is not None
    assert info.patch.objects == ("vmlinux", "klp_target_mod")
    assert mutations("omitted-object", GATE) == []


def test_nop_set() -> None:
    """One byte of one klp_func, in the word that ends it."""
    for number, mutation in enumerate(mutations("nop-set", GATE)):
        after = mutated(GATE, mutation)
        (at,) = [at for at in range(len(GATE)) if after[at] != GATE[at]]
        file = LivepatchFile(GATE, "it")
        place = file.functions[number]
        assert at == file.elf.sections[place.section].offset + place.offset + place.size - 8
        assert after[at] == 1


def test_callbacks() -> None:
    """Neighbours change places, or one is gone; pre_patch keeps its own, since it returns."""
    before = callbacks(CALLBACKS)
    assert None not in before
    swapped = mutations("swapped-callbacks", CALLBACKS)
    assert [mutation.where for mutation in swapped[:2]] == [
        "vmlinux:post_patch+pre_unpatch",
        "vmlinux:pre_unpatch+post_unpatch",
    ]
    one, two, three, four = before
    assert callbacks(mutated(CALLBACKS, swapped[0])) == [one, three, two, four]
    assert callbacks(mutated(CALLBACKS, swapped[1])) == [one, two, four, three]
    omitted = mutations("omitted-callback", CALLBACKS)
    assert callbacks(mutated(CALLBACKS, omitted[0])) == [None, two, three, four]
    assert callbacks(mutated(CALLBACKS, omitted[3])) == [one, two, three, None]
    assert mutations("omitted-callback", GATE) == []


def test_no_replace(tmp_path: Path) -> None:
    """A patch that replaces does not any more; of one that does not there is no such mutant."""
    source = (
        HEAD
        + STRUCTS
        + 'static struct func f[] = { { "f", body }, { 0 } };'
        + "static struct object o[] = { { 0, f }, { 0 } };"
        + "struct patch patch = { __this_module, o, 0, 1 };"
    )
    content = compiled(tmp_path, source).read_bytes()
    before = read(content, tmp_path).patch
    (only,) = mutations("no-replace", content)
    after = read(mutated(content, only), tmp_path).patch
    assert before is not None
    assert before.replace
    assert after == replace(before, replace=False)
    assert mutations("no-replace", GATE) == []


def test_other_string() -> None:
    """The body's code refers to another string; the strings are as they were."""
    (only,) = mutations("other-string", CMDLINE)
    after = LivepatchFile(mutated(CMDLINE, only), "it")
    body = after.body(after.functions[0])
    assert body is not None
    (use, *_) = after.strings_of(body)
    assert f"uses {use.text!r} instead of 'klp_test_cmdline_a'" in only.change
    assert use.text != "klp_test_cmdline_a"


def test_another_string_has_no_conversions(tmp_path: Path) -> None:
    """A format without its arguments would be another fault."""
    source = (
        HEAD
        + STRUCTS
        + """
    const char *format(void) { asm volatile(""); return "%d of %d"; }
    const char *text(void) { asm volatile(""); return "new"; }
    static struct func f[] = { { "old", text }, { 0 } };
    static struct object o[] = { { 0, f }, { 0 } };
    struct patch patch = { __this_module, o };
    """
    )
    (only,) = mutations("other-string", compiled(tmp_path, source).read_bytes())
    assert only.change == "the new body of old() uses 'old' instead of 'new'"


def test_other_symbol(tmp_path: Path) -> None:
    """A livepatch relocation stands for another function of the same object."""
    source = (
        HEAD
        + STRUCTS
        + """
    int hidden(void) __attribute__((weak));
    int (*pointer)(void) __attribute__((section(".data.pointer"))) = hidden;
    static struct func f[] = { { "klp_gate_wait", body }, { 0 } };
    static struct object o[] = { { "klp_target_gate", f }, { 0 } };
    struct patch patch = { __this_module, o };
    """
    )
    plain = compiled(tmp_path, source).read_bytes()
    relocation = LivepatchRelocation(
        section=".data.pointer",
        symbol="hidden",
        object="klp_target_gate",
        stands_for="klp_gate_wait_second",
        sympos=1,
    )
    content = with_livepatch_relocation(plain, relocation)
    (only,) = mutations("other-symbol", content)
    (symbol,) = read(mutated(content, only), tmp_path).klp_symbols
    assert (symbol.object, symbol.sympos) == ("klp_target_gate", 1)
    assert symbol.name not in ("klp_gate_wait_second", "klp_gate_wait")
    assert TARGET.symbols[symbol.name] == (True,)
    assert mutations("other-symbol", plain) == []


def test_a_module_that_is_filled_at_run_time_is_refused() -> None:
    """A module whose file does not have its klp_patch is refused by name."""
    content = (MODULES / "klp_test_symbol.ko").read_bytes()
    with pytest.raises(UsageError, match="klp_test_symbol has no klp_patch in its file"):
        LivepatchFile(content, "klp_test_symbol")


def test_kinds_are_chosen_by_name() -> None:
    """Each named kind once; a misspelt one is refused with a hint."""
    assert choose([]) == OPERATORS
    assert [each.name for each in choose(["nop-set", "other-name", "nop-set"])] == [
        "nop-set",
        "other-name",
    ]
    with pytest.raises(UsageError, match="no kind of module mutant named nop-sett") as refused:
        choose(["nop-sett"])
    assert refused.value.hint == "did you mean nop-set?"


def test_each_kind_has_a_name_and_sentences_of_its_own() -> None:
    """Names are unique and suit the command line."""
    assert len({each.name for each in OPERATORS}) == len(OPERATORS)
    for operator in OPERATORS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", operator.name)
        assert not operator.breaks.endswith(".")


def test_the_manifest_names_what_is_there() -> None:
    """Every module, check and relocation of the manifest exists."""
    folders = (resource_dir(Resource.LIVEPATCH_MODULES), SOURCES)
    built = {
        name
        for folder in folders
        for name in re.findall(r"(\w+)\.o", (folder / "Kbuild").read_text())
    }
    for name, subject in read_manifest().items():
        assert {name, *subject.targets, *subject.replaces} <= built
        assert (CHECKS / subject.check).is_file()
        if subject.relocation is not None:
            source = (resource_dir(Resource.LIVEPATCH_MODULES) / f"{name}.c").read_text()
            assert f'section("{subject.relocation.section}")' in source
            assert f" {subject.relocation.symbol} __weak;" in source
