# SPDX-License-Identifier: GPL-2.0-only
"""Whether a module fits a kernel, judged on the host, with a sentence for each problem.

The kernel answers most of these with EINVAL or ENOEXEC and a line in its log
(kernel/module/, kernel/livepatch/core.c); the rules are the same.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.vm.kernel.codes import Code
from harness.vm.kernel.symbols import kernel_symbols

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.vm.elf.klp_structs import PatchedFunction
    from harness.vm.elf.module_info import ModuleInfo
    from harness.vm.elf.vmlinux import Vmlinux
    from harness.vm.kernel.kernel import Kernel

_CLONES = (".isra.", ".constprop.", ".part.", ".cold", ".lto_priv.")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a module, in a sentence, with what to do about it."""

    code: Code
    sentence: str
    hint: str | None = None


def check_module(
    info: ModuleInfo,
    kernel: Kernel,
    *,
    targets: Sequence[ModuleInfo] = (),
    expect_livepatch: bool = False,
) -> None:
    """Refuse a module that the kernel would refuse, or that is not what the user meant.

    ``targets`` are the other modules that are loaded before it. An object of the livepatch that is
    not among them may be loaded later and is not judged.
    Raises UsageError with the first problem; further ones are its details.
    """
    problems = find_problems(info, kernel, targets=targets, expect_livepatch=expect_livepatch)
    if problems:
        first, *others = problems
        raise UsageError(
            first.sentence, hint=first.hint, details=tuple(other.sentence for other in others)
        )


def find_problems(
    info: ModuleInfo,
    kernel: Kernel,
    *,
    targets: Sequence[ModuleInfo] = (),
    expect_livepatch: bool = False,
) -> tuple[Problem, ...]:
    """Return all problems of a module with a kernel, the most basic first.

    A module of another kernel gets that problem only: the others would follow from it. What is not
    known of a packaged kernel's vmlinux (`harness.vm.kernel.symbols.not_judged`) is left to the
    kernel, which judges functions and livepatch relocations when the module is loaded.
    """
    image = kernel_symbols(kernel)
    other = _other_kernel(info, kernel)
    if other is not None:
        return (other,)
    problems: list[Problem] = []
    if expect_livepatch and not info.is_livepatch:
        problems.append(
            Problem(
                code=Code.NOT_A_LIVEPATCH,
                sentence=f"{info.name} is not a livepatch: its modinfo has no livepatch=Y",
                hint='add MODULE_INFO(livepatch, "Y"); a module that is patched is given as target',
            )
        )
    problems += _dependencies(info, targets)
    problems += _unresolved(info, kernel, targets)
    for symbol in info.klp_symbols:
        known = image is None or image.named(symbol.name)
        if symbol.object == "vmlinux" and not known:
            problems.append(
                Problem(
                    code=Code.UNRESOLVED_SYMBOL,
                    sentence=f"{info.name} has a livepatch relocation to {symbol.name}, which "
                    f"{kernel.version}'s vmlinux does not have",
                    hint=_likely(symbol.name, image.function_names() if image else ()),
                )
            )
    for function in info.patch.functions if info.patch is not None else ():
        problem = _function(info, function, kernel, image, targets)
        if problem is not None:
            problems.append(problem)
    return tuple(problems)


def expected_vermagic(kernel: Kernel) -> str:
    """Return the vermagic that modules of a kernel carry (include/linux/vermagic.h)."""
    image = kernel_symbols(kernel)
    if image is not None and image.vermagic is not None:
        return image.vermagic
    words = [kernel.version]
    for option, word in (
        ("SMP", "SMP"),
        ("PREEMPT_RT", "preempt_rt"),
        ("PREEMPTION", "preempt"),
        ("MODULE_UNLOAD", "mod_unload"),
        ("MODVERSIONS", "modversions"),
    ):
        if kernel.config.enabled(option) and not (word == "preempt" and "preempt_rt" in words):
            words.append(word)
    return " ".join(words)


def _other_kernel(info: ModuleInfo, kernel: Kernel) -> Problem | None:
    expected = expected_vermagic(kernel)
    mine, theirs = info.vermagic.split(), expected.split()
    if "modversions" in mine and "modversions" in theirs:
        # same_magic() in kernel/module/version.c: with symbol versions the release may differ.
        mine, theirs = mine[1:], theirs[1:]
    if mine == theirs:
        return None
    if not info.vermagic:
        sentence = f"{info.name} does not say which kernel it was built for: it has no vermagic"
    elif mine[:1] != theirs[:1]:
        sentence = (
            f"{info.name} was built for another kernel: {mine[0] if mine else 'none'}, "
            f"not {kernel.version}"
        )
    else:
        sentence = (
            f"{info.name} was built for a kernel that is configured differently "
            f"(vermagic '{info.vermagic}' instead of '{expected}')"
        )
    return Problem(
        code=Code.OTHER_KERNEL,
        sentence=sentence,
        hint=f"build it against {kernel.build_dir} (make -C ... M=...), or give its sources",
    )


def _dependencies(info: ModuleInfo, targets: Sequence[ModuleInfo]) -> Iterator[Problem]:
    given = {target.name for target in targets}
    for name in info.depends:
        if name not in given:
            yield Problem(
                code=Code.MISSING_DEPENDENCY,
                sentence=f"{info.name} needs the module {name}, which is not given",
                hint=f"give {name}.ko before it",
            )


def _unresolved(
    info: ModuleInfo, kernel: Kernel, targets: Sequence[ModuleInfo]
) -> Iterator[Problem]:
    known = exported_symbols(kernel)
    for target in targets:
        known = known.union(target.exported)
    missing = [name for name in info.undefined if name not in known]
    if missing and not set(info.depends) - {target.name for target in targets}:
        shown = ", ".join(missing[:5]) + (" and others" if len(missing) > 5 else "")
        yield Problem(
            code=Code.UNRESOLVED_SYMBOL,
            sentence=f"{info.name} uses {shown}: neither {kernel.version} nor a module given "
            "exports that",
            hint="a livepatch reaches symbols that are not exported through livepatch relocations "
            "(Documentation/livepatch/module-elf-format.rst)",
        )


def exported_symbols(kernel: Kernel) -> frozenset[str]:
    """Return what vmlinux exports to modules, from the build's Module.symvers.

    Raises HarnessError when it cannot be read.
    """
    path = kernel.build_dir / "Module.symvers"
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise HarnessError(
            f"{path} cannot be read: {error.strerror}", hint="build the kernel again"
        ) from error
    fields = (line.split("\t") for line in text.splitlines())
    return frozenset(field[1] for field in fields if len(field) > 2 and field[2] == "vmlinux")


def _function(
    info: ModuleInfo,
    function: PatchedFunction,
    kernel: Kernel,
    image: Vmlinux | None,
    targets: Sequence[ModuleInfo],
) -> Problem | None:
    if function.object == "vmlinux":
        if image is None:
            return None
        symbols = image.named(function.name)
        traceable = tuple(image.is_traceable(symbol) for symbol in symbols)
        known: Sequence[str] = image.function_names() if not symbols else ()
        where = f"{kernel.version}'s vmlinux"
    else:
        target = next((target for target in targets if target.name == function.object), None)
        if target is None:
            return None
        traceable = target.symbols.get(function.name, ())
        known = tuple(target.symbols)
        where = f"the module {target.name}"
    return _judge(info, function, where, traceable, known)


def _judge(
    info: ModuleInfo,
    function: PatchedFunction,
    where: str,
    traceable: tuple[bool, ...],
    known: Sequence[str],
) -> Problem | None:
    name, sympos, count = function.name, function.sympos, len(traceable)
    if not count:
        return Problem(
            code=Code.NO_SUCH_FUNCTION,
            sentence=f"{info.name} patches {name}(), and {where} has no such function",
            hint=_likely(name, known),
        )
    if sympos == 0 and count > 1:
        return Problem(
            code=Code.AMBIGUOUS,
            sentence=f"{info.name} patches {name}(), and {where} has {count} symbols of that name",
            hint=f"set old_sympos to 1 to {count}: which of them, in the order of kallsyms",
        )
    if sympos > count:
        return Problem(
            code=Code.SYMPOS_OUT_OF_RANGE,
            sentence=f"{info.name} patches number {sympos} of {name}(), and {where} has {count}",
            hint="old_sympos counts from 1 in the order of kallsyms; 0 means the name is unique",
        )
    if not traceable[max(sympos, 1) - 1]:
        return Problem(
            code=Code.NOT_TRACEABLE,
            sentence=f"{info.name} patches {name}() of {where}, which ftrace cannot redirect",
            hint="it is marked notrace or is no function; patch its callers instead",
        )
    return None


def _likely(name: str, known: Sequence[str]) -> str:
    clones = [other for other in known if other.startswith(tuple(name + end for end in _CLONES))]
    if clones:
        return (
            f"the compiler made {clones[0]} of it, and the original does not exist; patch its "
            "callers, or the clone with its own arguments"
        )
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.8)
    if close:
        return f"is one of these meant: {', '.join(close)}?"
    return "it may be misspelt, inlined into its callers, or not part of this configuration"
