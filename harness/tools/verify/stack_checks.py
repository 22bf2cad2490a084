# SPDX-License-Identifier: GPL-2.0-only
"""What a livepatch patches against what a transition can see of a task's stack."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.tools.verify.cold_parts import cold_bodies, cold_functions, cold_in_vmlinux
from harness.tools.verify.verdict import not_run, passed, warned
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.tools.verify.cold_parts import ColdPart
    from harness.tools.verify.verdict import Check
    from harness.vm.elf.module_info import ModuleInfo
    from harness.vm.elf.vmlinux import Vmlinux
    from harness.vm.kernel.kernel import Kernel

VMLINUX = "vmlinux"
_RISKY = Path(__file__).with_name("risky.toml")
_IN_A_BODY = (
    "{function}() of the patch has a part {function}.cold, which calls {sleeps}(): a task that "
    "sleeps there is not seen when the patch is disabled, and returns to text that an unload has "
    "freed"
)
_IN_AN_OLD = (
    "{function}() of {owner} has a part {function}.cold, which calls {sleeps}(): a task that "
    "sleeps there is not seen when the patch is enabled, and is switched while it is in the old "
    "function"
)
_ADVICE_BODY = (
    "build the file with -fno-reorder-blocks-and-partition (CFLAGS_NAME.o in its Makefile), so "
    "that nothing is split off"
)
_ADVICE_OLD = "patch a caller further out as well, whose own part is on the stack then"


def check_stacks(
    info: ModuleInfo,
    kernel: Kernel,
    image: Vmlinux | None,
    *,
    targets: Sequence[ModuleInfo],
    older: Sequence[ModuleInfo],
) -> tuple[Check, ...]:
    """Return the checks ``stacks``, ``cold-parts`` and ``forced-below`` of a livepatch's file."""
    return (_stacks(info), _cold_parts(info, kernel, image, targets), _forced_below(info, older))


@dataclass(frozen=True, kw_only=True)
class _Risk:
    why: str
    code: Code
    advice: str


def _stacks(info: ModuleInfo) -> Check:
    risks = _risks()
    found = [
        (function.name, risks[function.name])
        for function in (info.patch.functions if info.patch is not None else ())
        if function.object == VMLINUX and function.name in risks
    ]
    if not found:
        return passed("stacks", "patches no function that is known to be on every stack")
    lines = tuple(f"{name}(): {risk.why}" for name, risk in found)
    return warned("stacks", found[0][1].code, lines[0], found[0][1].advice, lines)


def _risks() -> Mapping[str, _Risk]:
    """Return the functions of vmlinux that are not to be patched, each with the reason."""
    groups = tomllib.loads(_RISKY.read_text(encoding="utf-8"))["group"]
    return {
        name: _Risk(
            why=group["why"].strip(),
            code=Code(group.get("code", Code.ALWAYS_ON_STACK)),
            advice=group.get("advice", "patch a caller further out, which tasks enter and leave"),
        )
        for group in groups
        for name in group["functions"]
    }


def _cold_parts(
    info: ModuleInfo, kernel: Kernel, image: Vmlinux | None, targets: Sequence[ModuleInfo]
) -> Check:
    if info.patch is None:
        why = "the file does not name the functions: the module fills in its list when it is loaded"
        return not_run("cold-parts", why)
    bodies = cold_bodies(info.path)
    lines = [_IN_A_BODY.format(function=part.function, sleeps=part.sleeps) for part in bodies]
    lines += [
        _IN_AN_OLD.format(function=part.function, sleeps=part.sleeps, owner=owner)
        for owner, part in _in_old_functions(info, kernel, image, targets)
    ]
    if lines:
        advice = _ADVICE_BODY if bodies else _ADVICE_OLD
        return warned("cold-parts", Code.COLD_PART, lines[0], advice, tuple(lines))
    detail = "nothing that the compiler split off a function is known to sleep"
    if kernel.vmlinux is None and VMLINUX in info.patch.objects:
        detail += "; the kernel's own functions were not looked at, since its vmlinux is not here"
    return passed("cold-parts", detail)


def _forced_below(info: ModuleInfo, older: Sequence[ModuleInfo]) -> Check:
    """Check whether the patch replaces one that is stacked on another of the same function.

    Since 29573083, force pins the patches that are disabled or replaced. A task that was forced
    may sleep in the one below, which klp_check_stack_func() does not look for.
    """
    stacked = [each for each in older if each.patch is not None and not each.patch.replace]
    for upper in stacked:
        for lower in older:
            if upper is lower or not (info.patch is not None and info.patch.replace):
                continue
            shared = sorted(_functions_of(upper) & _functions_of(lower))
            if shared:
                owner, name = shared[0]
                return warned(
                    "forced-below",
                    Code.FORCED_BELOW,
                    f"it replaces {upper.name} and {lower.name}, which both patch {name}() of "
                    f"{owner}; where {upper.name} was forced, a task may sleep in the function of "
                    f"{lower.name} still, and the kernel lets that be unloaded",
                    f"do not unload {lower.name} before the next boot where force was used",
                )
    return passed("forced-below", "it replaces no two livepatches of which a task may be forgotten")


def _functions_of(info: ModuleInfo) -> set[tuple[str, str]]:
    if info.patch is None:
        return set()
    return {(function.object, function.name) for function in info.patch.functions}


def _in_old_functions(
    info: ModuleInfo, kernel: Kernel, image: Vmlinux | None, targets: Sequence[ModuleInfo]
) -> Iterator[tuple[str, ColdPart]]:
    """Yield such parts of the functions that are patched, each with its object."""
    assert info.patch is not None
    names: dict[str, list[str]] = {}
    for function in info.patch.functions:
        names.setdefault(function.object, []).append(function.name)
    if image is not None and kernel.vmlinux is not None and VMLINUX in names:
        for part in cold_in_vmlinux(image, kernel.vmlinux, names[VMLINUX]):
            yield VMLINUX, part
    for target in targets:
        for part in cold_functions(target.path, names.get(target.name, ())):
            yield target.name, part
