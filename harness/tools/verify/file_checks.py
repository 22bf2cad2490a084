# SPDX-License-Identifier: GPL-2.0-only
"""The checks of a livepatch's file against the kernel, before a guest loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.tools.verify.stack_checks import VMLINUX, check_stacks
from harness.tools.verify.unused_functions import unused_functions
from harness.tools.verify.verdict import failed, not_run, passed, warned
from harness.vm.kernel.check import find_problems
from harness.vm.kernel.codes import Code
from harness.vm.kernel.symbols import kernel_symbols, not_judged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tools.verify.verdict import Check
    from harness.vm.elf.klp_structs import PatchedFunction
    from harness.vm.elf.module_info import ModuleInfo
    from harness.vm.elf.vmlinux import Vmlinux
    from harness.vm.kernel.check import Problem
    from harness.vm.kernel.kernel import Kernel

# What license_is_gpl_compatible() accepts (include/linux/license.h).
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
# Such a module is no livepatch of this kernel, so that there is nothing to judge.
_NOT_JUDGED = (Code.OTHER_KERNEL, Code.NOT_A_LIVEPATCH, Code.MISSING_DEPENDENCY)
_MOST_NAMES = 6
_INIT_HAS_RUN = "it has run, and its memory is freed, before the patch is loaded"
_INIT_OF_A_TARGET = (
    "a target that is there has freed it, so that the patch is refused; in one loaded later it is "
    "patched there, and cannot be unpatched when that memory is freed"
)


def check_file(
    info: ModuleInfo,
    kernel: Kernel,
    *,
    targets: Sequence[ModuleInfo] = (),
    absent: Sequence[str] = (),
    older: Sequence[ModuleInfo] = (),
) -> tuple[Check, ...]:
    """Return the checks of a livepatch's file.

    ``targets`` are the modules that it patches, ``absent`` the names of those that are not given,
    ``older`` the versions before it. Raises UsageError for what is no livepatch,
    is built for another kernel, or needs a module that is not given.
    """
    problems = find_problems(info, kernel, targets=targets, expect_livepatch=True)
    for problem in problems:
        if problem.code in _NOT_JUDGED:
            raise UsageError(problem.sentence, hint=problem.hint)
    image = kernel_symbols(kernel)
    symbols = [each for each in problems if each.code is Code.UNRESOLVED_SYMBOL]
    functions = [each for each in problems if each not in symbols]
    return (
        passed("file", f"a livepatch for {kernel.version}, vermagic '{info.vermagic}'"),
        _licence(info),
        _signature(info, kernel),
        _refused("symbols", symbols) or passed("symbols", "all symbols that it uses are exported"),
        _relocations(info, image, targets),
        _refused("functions", functions) or _functions(info, image, targets, not_judged(kernel)),
        _bodies(info),
        *check_stacks(info, kernel, image, targets=targets, older=older),
        _targets(info, absent),
        _states(info, older),
    )


def _refused(name: str, problems: Sequence[Problem]) -> Check | None:
    """Return the failed check of what the kernel would refuse; None without a problem."""
    if not problems:
        return None
    first, *others = problems
    lines = tuple(other.sentence for other in others)
    return failed(name, first.code, first.sentence, first.hint, lines)


def _licence(info: ModuleInfo) -> Check:
    if info.licence in _GPL:
        return passed("licence", info.licence)
    named = f"'{info.licence}'" if info.licence else "missing"
    return failed(
        "licence",
        Code.LICENCE,
        f"its licence is {named}, which the kernel does not accept as GPL-compatible: only such "
        "modules may call klp_enable_patch()",
        'add MODULE_LICENSE("GPL"), if that is its licence',
    )


def _signature(info: ModuleInfo, kernel: Kernel) -> Check:
    if info.signed:
        return passed("signature", "signed")
    if not kernel.config.enabled("MODULE_SIG"):
        return passed("signature", "not signed, and this kernel does not verify signatures")
    advice = "sign it with scripts/sign-file of the kernel's tree"
    if kernel.config.enabled("MODULE_SIG_FORCE"):
        return failed("signature", Code.UNSIGNED, "not signed: this kernel refuses it", advice)
    detail = "not signed: this kernel loads it and is tainted by it (E)"
    return warned("signature", Code.UNSIGNED, detail, advice)


def _relocations(info: ModuleInfo, image: Vmlinux | None, targets: Sequence[ModuleInfo]) -> Check:
    """Check the symbols that the livepatch core resolves (module-elf-format.rst)."""
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
            return failed(
                "relocations",
                Code.RELOCATION,
                f"a livepatch relocation cannot be resolved: {wrong}",
                "build the patch again, from the sources of this kernel",
            )
    count = len(info.klp_symbols)
    detail = f"{count} livepatch relocations resolve" if count else "no livepatch relocations"
    if later:
        detail = (
            f"{count - len(later)} of {count} livepatch relocations resolve; the object of the "
            f"others is not known here ({', '.join(later[:3])})"
        )
    return passed("relocations", detail)


def _functions(
    info: ModuleInfo, image: Vmlinux | None, targets: Sequence[ModuleInfo], left_open: str | None
) -> Check:
    if info.patch is None:
        why = "the file does not name the functions: the module fills in its list when it is loaded"
        return not_run("functions", why)
    if info.patch.list_faults:
        first, *others = info.patch.list_faults
        return failed(
            "functions",
            Code.LIST_END,
            f"{first}: the kernel reads a list up to its first empty entry",
            "end each list with one empty entry, and put nothing after it",
            tuple(others),
        )
    init = {target.name: target.init_functions for target in targets}
    for function in info.patch.functions:
        is_init = (
            _is_init(image, function)
            if function.object == VMLINUX
            else function.name in init.get(function.object, ())
        )
        if is_init:
            return failed(
                "functions",
                Code.INIT_FUNCTION,
                f"it patches {function.name}() of {function.object}, which is __init: "
                + (_INIT_HAS_RUN if function.object == VMLINUX else _INIT_OF_A_TARGET),
                "change what init has set up, for example in a callback",
            )
    names = [f"{each.object}:{each.name}" for each in info.patch.functions]
    detail = f"patches {_listed(names)}" if names else "patches no function: callbacks only"
    if left_open and any(each.object == VMLINUX for each in info.patch.functions):
        detail += f"; {left_open}"
    return passed("functions", detail)


def _is_init(image: Vmlinux | None, function: PatchedFunction) -> bool:
    if image is None:
        return False  # a packaged kernel comes without its symbols
    bounds = [image.named(name) for name in ("_sinittext", "_einittext")]
    symbols = image.named(function.name)
    if not all(bounds) or not symbols:
        return False
    chosen = symbols[max(function.sympos, 1) - 1]
    return bounds[0][0].address <= chosen.address < bounds[1][0].address


def _bodies(info: ModuleInfo) -> Check:
    """Check that something in the module leads to each of its functions."""
    names = [f"{name}()" for name in unused_functions(info.path)]
    if not names:
        return passed("bodies", "each function of the module is used")
    return warned(
        "bodies",
        Code.UNUSED_BODY,
        f"nothing uses {_listed(names)}: no entry of the patch, no pointer, no call",
        "name it in a klp_func, and that list in a klp_object, or leave it out",
        tuple(names) if len(names) > _MOST_NAMES else (),
    )


def _targets(info: ModuleInfo, absent: Sequence[str]) -> Check:
    names = info.patch.objects if info.patch is not None else ()
    if absent:
        return warned(
            "targets",
            Code.TARGET_MISSING,
            f"it patches {', '.join(absent)}, which is not given: that part is not tested",
            f"give --target {absent[0]}.ko",
        )
    modules = ", ".join(name for name in names if name != VMLINUX)
    detail = f"patches modules that are given: {modules}" if modules else "patches no module"
    return passed("targets", detail)


def _states(info: ModuleInfo, older: Sequence[ModuleInfo]) -> Check:
    """Check the replace flag and the system states (kernel/livepatch/state.c)."""
    if info.patch is None:
        why = "the file does not name them: the module fills them in when it is loaded"
        return not_run("states", why)
    mine = {state.id: state.version for state in info.patch.states}
    for old in older:
        for state in old.patch.states if old.patch is not None else ():
            version = mine.get(state.id)
            lacking = version is None and info.patch.replace
            if lacking or (version is not None and version < state.version):
                what = "does not have" if lacking else f"has in version {version}"
                return failed(
                    "states",
                    Code.STATE_VERSION,
                    f"{old.name} has system state {state.id:#x} in version {state.version}, which "
                    f"this patch {what}: the kernel refuses it",
                    "carry every state of the older patch, in its version or a later one",
                )
    flag = "replaces all others" if info.patch.replace else "stacks on others"
    states = ", ".join(f"{state:#x} version {version}" for state, version in mine.items())
    detail = f"{flag}; system states: {states or 'none'}"
    if older and not info.patch.replace:
        return warned(
            "states",
            Code.NOT_CUMULATIVE,
            f"{detail}; so {older[0].name} stays enabled under it",
            "set .replace = true in a patch that is to replace another",
        )
    return passed("states", detail)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
