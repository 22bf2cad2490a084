# SPDX-License-Identifier: GPL-2.0-only
"""What a livepatch's file tells, judged against the kernel before a guest sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.tools.verify.risky import risky_functions
from harness.tools.verify.unused_functions import unused_functions
from harness.tools.verify.verdict import Check, CheckResult, Code
from harness.vm.elf.vmlinux import read_vmlinux
from harness.vm.kernel.check import Code as Found
from harness.vm.kernel.check import find_problems

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.vm.elf.klp_structs import PatchedFunction
    from harness.vm.elf.module_info import ModuleInfo
    from harness.vm.elf.vmlinux import Vmlinux
    from harness.vm.kernel.check import Problem
    from harness.vm.kernel.kernel import Kernel

VMLINUX = "vmlinux"
# What license_is_gpl_compatible() takes (include/linux/license.h).
_GPL = frozenset(
    {
        "GPL",
        "GPL v2",
        "GPL and additional rights",
        "Dual BSD/GPL",
        "Dual MIT/GPL",
        "Dual MPL/GPL",
    }
)
# Not a patch that fails, but something else than a patch of this kernel.
_NOT_ASKED = (Found.OTHER_KERNEL, Found.NOT_A_LIVEPATCH, Found.MISSING_DEPENDENCY)
_PLACES = {
    Found.UNRESOLVED_SYMBOL: ("symbols", Code.UNRESOLVED_SYMBOL),
    Found.NO_SUCH_FUNCTION: ("functions", Code.NO_SUCH_FUNCTION),
    Found.AMBIGUOUS: ("functions", Code.AMBIGUOUS),
    Found.SYMPOS_OUT_OF_RANGE: ("functions", Code.SYMPOS_OUT_OF_RANGE),
    Found.NOT_TRACEABLE: ("functions", Code.NOT_TRACEABLE),
}


def host_checks(
    info: ModuleInfo,
    kernel: Kernel,
    *,
    targets: Sequence[ModuleInfo] = (),
    absent: Sequence[str] = (),
    older: Sequence[ModuleInfo] = (),
) -> tuple[Check, ...]:
    """Return what the file comes to, check by check.

    Raises UsageError for what is no livepatch, is built for another kernel, or needs a module that
    is not given: then there is nothing to judge.
    """
    problems = find_problems(info, kernel, targets=targets, expect_livepatch=True)
    for problem in problems:
        if problem.code in _NOT_ASKED:
            raise UsageError(problem.sentence, hint=problem.hint)
    image = read_vmlinux(kernel.vmlinux) if kernel.vmlinux is not None else None
    return (
        Check(
            id="file",
            outcome=CheckResult.PASSED,
            detail=f"a livepatch for {kernel.version}, vermagic '{info.vermagic}'",
        ),
        _licence(info),
        _signature(info, kernel),
        _symbols(problems),
        _relocations(info, image, targets),
        _functions(info, problems, image, targets),
        _bodies(info),
        _risk(info),
        _targets(info, absent),
        _states(info, older),
    )


def _licence(info: ModuleInfo) -> Check:
    if info.licence in _GPL:
        return Check(id="licence", outcome=CheckResult.PASSED, detail=info.licence)
    return Check(
        id="licence",
        outcome=CheckResult.FAILED,
        code=Code.LICENCE,
        detail=f"its licence is '{info.licence or 'not said'}', which the kernel does not take as "
        "GPL: klp_enable_patch() is for GPL modules only",
        advice='say MODULE_LICENSE("GPL"), if that is so',
    )


def _signature(info: ModuleInfo, kernel: Kernel) -> Check:
    wanted = kernel.config.enabled("MODULE_SIG")
    if info.signed or not wanted:
        what = "signed" if info.signed else "not signed, and this kernel does not look"
        return Check(id="signature", outcome=CheckResult.PASSED, detail=what)
    forced = kernel.config.enabled("MODULE_SIG_FORCE")
    return Check(
        id="signature",
        outcome=CheckResult.FAILED if forced else CheckResult.WARNED,
        code=Code.UNSIGNED,
        detail="not signed: this kernel "
        + ("refuses that" if forced else "takes it and is tainted by it (E)"),
        advice="sign it with scripts/sign-file of the kernel's tree",
    )


def _symbols(problems: Sequence[Problem]) -> Check:
    found = _first(problems, "symbols")
    if found is not None:
        return found
    return Check(
        id="symbols", outcome=CheckResult.PASSED, detail="all symbols that it uses are exported"
    )


def _relocations(info: ModuleInfo, image: Vmlinux | None, targets: Sequence[ModuleInfo]) -> Check:
    """Judge the symbols that the livepatch core resolves (module-elf-format.rst)."""
    known = {target.name: target.symbols for target in targets}
    later: list[str] = []
    for symbol in info.klp_symbols:
        if symbol.object == VMLINUX and image is not None:
            count = len(image.named(symbol.name))
        elif symbol.object in known:
            count = len(known[symbol.object].get(symbol.name, ()))
        else:
            later.append(f"{symbol.object}.{symbol.name}")
            continue
        wrong = None
        if not count:
            wrong = f"{symbol.object} has no {symbol.name}"
        elif symbol.sympos == 0 and count > 1:
            wrong = f"{symbol.object} has {count} symbols {symbol.name}, and none is chosen"
        elif symbol.sympos > count:
            wrong = f"{symbol.object} has {count} of {symbol.name}, not {symbol.sympos}"
        if wrong:
            return Check(
                id="relocations",
                outcome=CheckResult.FAILED,
                code=Code.RELOCATION,
                detail=f"a livepatch relocation cannot be resolved: {wrong}",
                advice="build the patch again, from the sources of this kernel",
            )
    count = len(info.klp_symbols)
    detail = f"{count} livepatch relocations resolve" if count else "no livepatch relocations"
    if later:
        detail = f"{count - len(later)} of {count} livepatch relocations resolve, the others when "
        detail += f"their object is at hand ({', '.join(later[:3])})"
    return Check(id="relocations", outcome=CheckResult.PASSED, detail=detail)


def _functions(
    info: ModuleInfo,
    problems: Sequence[Problem],
    image: Vmlinux | None,
    targets: Sequence[ModuleInfo],
) -> Check:
    found = _first(problems, "functions")
    if found is not None:
        return found
    if info.patch is None:
        return Check(
            id="functions",
            outcome=CheckResult.NOT_RUN,
            code=Code.NOT_RUN,
            detail="the file does not name the functions: the module fills its list when it runs",
        )
    if info.patch.list_faults:
        first, *others = info.patch.list_faults
        return Check(
            id="functions",
            outcome=CheckResult.FAILED,
            code=Code.LIST_END,
            detail=f"{first}: the kernel reads a list up to its first empty entry",
            advice="end each list with one empty entry, and put nothing behind it",
            lines=tuple(others),
        )
    init = {target.name: target.init_functions for target in targets}
    for function in info.patch.functions:
        gone = (
            _is_init(image, function)
            if function.object == VMLINUX
            else function.name in init.get(function.object, ())
        )
        if gone:
            return Check(
                id="functions",
                outcome=CheckResult.FAILED,
                code=Code.INIT_FUNCTION,
                detail=f"it patches {function.name}() of {function.object}, which is __init: "
                "it has run and is gone before the patch comes",
                advice="patch what init left behind, for example by a callback",
            )
    names = ", ".join(f"{each.object}:{each.name}" for each in info.patch.functions[:6])
    count = len(info.patch.functions)
    more = f" and {count - 6} more" if count > 6 else ""
    return Check(
        id="functions",
        outcome=CheckResult.PASSED,
        detail=f"patches {names}{more}" if count else "patches no function: callbacks only",
    )


def _bodies(info: ModuleInfo) -> Check:
    """Judge whether all code of the patch can be come to."""
    unused = unused_functions(info.path)
    if not unused:
        return Check(
            id="bodies",
            outcome=CheckResult.PASSED,
            detail="something leads to each function of the module",
        )
    names = ", ".join(f"{name}()" for name in unused[:6])
    more = f" and {len(unused) - 6} more" if len(unused) > 6 else ""
    return Check(
        id="bodies",
        outcome=CheckResult.WARNED,
        code=Code.UNUSED_BODY,
        detail=f"nothing leads to {names}{more}: no entry of the patch, no pointer, no call",
        advice="name it in a klp_func, and that list in a klp_object, or leave it out",
        lines=tuple(f"{name}()" for name in unused) if len(unused) > 6 else (),
    )


def _is_init(image: Vmlinux | None, function: PatchedFunction) -> bool:
    if image is None:
        return False  # a packaged kernel comes without its symbols
    bounds = [image.named(name) for name in ("_sinittext", "_einittext")]
    symbols = image.named(function.name)
    if not all(bounds) or not symbols:
        return False
    chosen = symbols[max(function.sympos, 1) - 1]
    return bounds[0][0].address <= chosen.address < bounds[1][0].address


def _risk(info: ModuleInfo) -> Check:
    risky = risky_functions()
    lines = tuple(
        f"{function.name}(): {risky[function.name]}"
        for function in (info.patch.functions if info.patch is not None else ())
        if function.object == VMLINUX and function.name in risky
    )
    if not lines:
        return Check(
            id="stacks", outcome=CheckResult.PASSED, detail="none is known to be on every stack"
        )
    return Check(
        id="stacks",
        outcome=CheckResult.WARNED,
        code=Code.ALWAYS_ON_STACK,
        detail=lines[0],
        advice="patch a function further out, which tasks enter and leave",
        lines=lines,
    )


def _targets(info: ModuleInfo, absent: Sequence[str]) -> Check:
    names = info.patch.objects if info.patch is not None else ()
    if not absent:
        what = ", ".join(name for name in names if name != VMLINUX)
        detail = f"patches modules that are given: {what}" if what else "patches no module"
        return Check(id="targets", outcome=CheckResult.PASSED, detail=detail)
    return Check(
        id="targets",
        outcome=CheckResult.WARNED,
        code=Code.TARGET_MISSING,
        detail=f"it patches {', '.join(absent)}, which is not given: that part is not tested",
        advice=f"give --target {absent[0]}.ko",
    )


def _states(info: ModuleInfo, older: Sequence[ModuleInfo]) -> Check:
    """Judge the replace flag and the system states (kernel/livepatch/state.c)."""
    if info.patch is None:
        return Check(
            id="states",
            outcome=CheckResult.NOT_RUN,
            code=Code.NOT_RUN,
            detail="the file does not tell them",
        )
    mine = {state.id: state.version for state in info.patch.states}
    for old in older:
        for state in old.patch.states if old.patch is not None else ():
            version = mine.get(state.id)
            lacking = version is None and info.patch.replace
            if lacking or (version is not None and version < state.version):
                what = "does not have" if lacking else f"has in version {version}"
                return Check(
                    id="states",
                    outcome=CheckResult.FAILED,
                    code=Code.STATE_VERSION,
                    detail=f"{old.name} has system state {state.id:#x} in version "
                    f"{state.version}, which this patch {what}: the kernel refuses it",
                    advice="carry every state of the older patch, in its version or a later one",
                )
    flag = "replaces all others" if info.patch.replace else "stacks on others"
    states = ", ".join(f"{state:#x} version {version}" for state, version in mine.items())
    detail = f"{flag}; system states: {states or 'none'}"
    if older and not info.patch.replace:
        return Check(
            id="states",
            outcome=CheckResult.WARNED,
            code=Code.NOT_CUMULATIVE,
            detail=f"{detail}; {older[0].name} stays under it, as the file has it",
            advice="set .replace = true for a patch that comes in the place of another",
        )
    return Check(id="states", outcome=CheckResult.PASSED, detail=detail)


def _first(problems: Sequence[Problem], place: str) -> Check | None:
    found = list(_at(problems, place))
    if not found:
        return None
    first, *others = found
    return Check(
        id=place,
        outcome=CheckResult.FAILED,
        code=_PLACES[first.code][1],
        detail=first.sentence,
        advice=first.hint,
        lines=tuple(other.sentence for other in others),
    )


def _at(problems: Sequence[Problem], place: str) -> Iterator[Problem]:
    for problem in problems:
        if problem.code in _PLACES and _PLACES[problem.code][0] == place:
            yield problem
