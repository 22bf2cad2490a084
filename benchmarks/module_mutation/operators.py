# SPDX-License-Identifier: GPL-2.0-only
"""The ways to break a correct livepatch so that the kernel still loads it.

Each operator has what it breaks, what a module must have for it, and the scenes of `verify` in
which a check has to fail.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.module_mutation import edits
from benchmarks.module_mutation.patch_file import NEW_FUNC, OBJECT_NAME, Callback
from benchmarks.module_mutation.substitutes import VMLINUX
from harness.errors import UsageError
from harness.vm.elf.klp_structs import REPLACE, SYMPOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.module_mutation.patch_file import LivepatchFile
    from benchmarks.module_mutation.substitutes import Substitutes
    from harness.vm.elf.klp_structs import FunctionPlace

IDLE = "idle"
UPGRADE = "upgrade"
# A leak of a callback is seen after many cycles.
_UNDONE = (IDLE, "cycles")
_GONE = "_gone"
# "bool nop, patched, transition" end a klp_func since 5.1 (include/linux/livepatch.h); before them
# are words, so that they share the last one.
_NOP_FROM_END = 8
# Not pre_patch, which returns a value: in its place another callback would return any value.
_SWAPPED = (Callback.POST_PATCH, Callback.PRE_UNPATCH, Callback.POST_UNPATCH)


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One way to break one module: the place, a description, and the change itself."""

    where: str
    change: str
    edit: Callable[[LivepatchFile], None]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A kind of mutant. ``find`` yields the mutations of a module.

    ``needs`` is what a module without one lacks, ``scenes`` are those of `verify` in which a check
    has to fail; ``needs_older``: only with an older patch to replace.
    """

    name: str
    breaks: str
    needs: str
    find: Callable[[LivepatchFile, Substitutes], Iterator[Mutation]]
    scenes: tuple[str, ...] = (IDLE,)
    needs_older: bool = False


def choose(names: Sequence[str]) -> tuple[Operator, ...]:
    """Return the operators of these names, all for none; raises UsageError for an unknown one."""
    known = {operator.name: operator for operator in OPERATORS}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"kinds are {', '.join(known)}"
            raise UsageError(f"there is no kind of module mutant named {name}", hint=hint)
    return tuple(known[name] for name in dict.fromkeys(names)) if names else OPERATORS


# -- new bodies -----------------------------------------------------------------------------------


def _pairs(file: LivepatchFile) -> Iterator[tuple[FunctionPlace, FunctionPlace]]:
    """Yield neighbouring functions of an object that have different new bodies."""
    for place in file.objects:
        for one, other in pairwise(place.functions):
            if file.body(one) != file.body(other):
                yield one, other


def _swapped_bodies(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    for one, other in _pairs(file):
        first, second = one.function.name, other.function.name
        yield Mutation(
            where=f"{first}+{second}",
            change=f"the new bodies of {first}() and {second}() are exchanged",
            edit=partial(edits.swap, one.section, one.offset + NEW_FUNC, other.offset + NEW_FUNC),
        )


def _other_body(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    for one, other in _pairs(file):
        first, second = one.function.name, other.function.name
        yield Mutation(
            where=second,
            change=f"new_func of {second}() points to the new body of {first}()",
            edit=partial(
                edits.point_like, other.section, other.offset + NEW_FUNC, one.offset + NEW_FUNC
            ),
        )


def _other_string(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    for place in file.functions:
        body = file.body(place)
        use = next(file.strings_of(body), None) if body is not None else None
        if body is None or use is None:
            continue
        # Not a format: its missing argument would be another fault.
        texts = {
            text: start
            for text, start in file.texts(use.section).items()
            if text not in ("", use.text) and "%" not in text
        }
        if texts:
            other, start = next(iter(texts.items()))
            name = place.function.name
            yield Mutation(
                where=name,
                change=f"the new body of {name}() uses {other!r} instead of {use.text!r}",
                edit=partial(edits.use_string, body, use, start),
            )


# -- patched functions ----------------------------------------------------------------------------


def _other_name(file: LivepatchFile, beside: Substitutes) -> Iterator[Mutation]:
    for place in file.functions:
        function = place.function
        taken = [other.function.name for other in file.functions]
        other = beside.neighbour(function.object, function.name, taken=taken)
        if other is not None:
            yield Mutation(
                where=function.name,
                change=f"old_name is {other!r} instead of {function.name!r}",
                edit=partial(edits.rename, place, other),
            )


def _other_object(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    for place in file.objects:
        if place.name != VMLINUX:
            other = place.name + _GONE
            yield Mutation(
                where=place.name,
                change=f"the object's name is {other!r}, and no module has it",
                edit=partial(edits.set_string, place.section, place.offset + OBJECT_NAME, other),
            )


def _other_sympos(file: LivepatchFile, beside: Substitutes) -> Iterator[Mutation]:
    for place in file.functions:
        function = place.function
        count = beside.count(function.object, function.name)
        if count > 1 and function.sympos:
            other = function.sympos % count + 1
            yield Mutation(
                where=function.name,
                change=f"old_sympos is {other} instead of {function.sympos}, of {count}",
                edit=partial(edits.set_word, place.section, place.offset + SYMPOS, other),
            )


def _omitted_function(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    for place in file.objects:
        if place.functions:
            last = place.functions[-1]
            yield Mutation(
                where=last.function.name,
                change=f"the functions of {place.name} end before {last.function.name}()",
                edit=partial(edits.omit_function, last),
            )


def _omitted_object(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    if len(file.objects) > 1:
        last = file.objects[-1]
        yield Mutation(
            where=last.name,
            change=f"the objects end before {last.name}",
            edit=partial(edits.omit_object, last),
        )


def _nop_set(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    for place in file.functions:
        name = place.function.name
        yield Mutation(
            where=name,
            change=f"klp_func.nop of {name}() is set: the original runs",
            edit=partial(
                edits.set_byte, place.section, place.offset + place.size - _NOP_FROM_END, 1
            ),
        )


# -- callbacks, replace, relocations --------------------------------------------------------------


def _swapped_callbacks(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    for place in file.objects:
        for one, other in pairwise(each for each in _SWAPPED if file.has(place, each)):
            if file.callback(place, one) != file.callback(place, other):
                names = one.name.lower(), other.name.lower()
                yield Mutation(
                    where=f"{place.name}:{'+'.join(names)}",
                    change=f"{names[0]} and {names[1]} of {place.name} are exchanged",
                    edit=partial(
                        edits.swap,
                        place.section,
                        place.offset + one.value,
                        place.offset + other.value,
                    ),
                )


def _omitted_callback(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    for place in file.objects:
        for callback in Callback:
            if file.has(place, callback):
                name = callback.name.lower()
                yield Mutation(
                    where=f"{place.name}:{name}",
                    change=f"{name} of {place.name} is NULL",
                    edit=partial(edits.drop, place.section, place.offset + callback.value),
                )


def _no_replace(file: LivepatchFile, _: Substitutes) -> Iterator[Mutation]:
    if file.layout.contents.replace:
        yield Mutation(
            where="klp_patch",
            change="replace is false: the patch goes on top of the older ones, which stay",
            edit=partial(edits.set_byte, file.layout.section, file.layout.offset + REPLACE, 0),
        )


def _other_symbol(file: LivepatchFile, beside: Substitutes) -> Iterator[Mutation]:
    for symbol, owner, name in file.klp_symbols():
        taken = [place.function.name for place in file.functions]
        other = beside.neighbour(owner, name, taken=taken)
        if other is not None:
            yield Mutation(
                where=name,
                change=f"the livepatch relocations of {name} of {owner} are of {other}",
                edit=partial(edits.rename_klp_symbol, symbol, other),
            )


OPERATORS = (
    Operator(
        name="swapped-bodies",
        breaks="two functions get each other's new body",
        needs="two functions of one object with different bodies",
        find=_swapped_bodies,
    ),
    Operator(
        name="other-body",
        breaks="a function gets the new body that is meant for another",
        needs="two functions of one object with different bodies",
        find=_other_body,
    ),
    Operator(
        name="other-string",
        breaks="a new body uses another string of the module",
        needs="a new body with a string, and another string beside it",
        find=_other_string,
    ),
    Operator(
        name="other-name",
        breaks="a function with a similar name is patched instead",
        needs="a function with a similar name beside the patched one",
        find=_other_name,
    ),
    Operator(
        name="other-object",
        breaks="the object of a patch has the name of a module that does not exist",
        needs="a function of a module",
        find=_other_object,
    ),
    Operator(
        name="other-sympos",
        breaks="another function of the same name is patched",
        needs="a function chosen by old_sympos among several of its name",
        find=_other_sympos,
    ),
    Operator(
        name="omitted-function",
        breaks="the list of an object's functions ends one too early",
        needs="a function",
        find=_omitted_function,
    ),
    Operator(
        name="omitted-object",
        breaks="the list of objects ends one too early",
        needs="two objects",
        find=_omitted_object,
    ),
    Operator(
        name="nop-set",
        breaks="a function is redirected to its original, as by a nop of an atomic replace",
        needs="a function",
        find=_nop_set,
    ),
    Operator(
        name="swapped-callbacks",
        breaks="two callbacks are called in each other's place",
        needs="two of post_patch, pre_unpatch and post_unpatch in one object",
        find=_swapped_callbacks,
        scenes=_UNDONE,
    ),
    Operator(
        name="omitted-callback",
        breaks="a callback is not called",
        needs="a callback",
        find=_omitted_callback,
        scenes=_UNDONE,
    ),
    Operator(
        name="no-replace",
        breaks="a cumulative patch does not replace the older ones",
        needs="a patch that replaces, and an older one",
        find=_no_replace,
        scenes=(UPGRADE,),
        needs_older=True,
    ),
    Operator(
        name="other-symbol",
        breaks="a livepatch relocation is resolved to another symbol",
        needs="a livepatch relocation (.klp.sym) and another symbol with a similar name",
        find=_other_symbol,
    ),
)
"""All kinds of module mutants."""
