# SPDX-License-Identifier: GPL-2.0-only
"""Which target modules to load before a livepatch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.vm.elf.module_info import ModuleInfo

VMLINUX = "vmlinux"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A module to load before the patch."""

    name: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One livepatch to watch. ``absent`` are target modules without a known file.

    ``info`` is None when the file cannot be read and is sent to the kernel all the same.
    """

    name: str
    path: Path
    params: Mapping[str, str] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    absent: tuple[str, ...] = ()
    info: ModuleInfo | None = None

    @property
    def functions(self) -> tuple[str, ...]:
        """The patched functions, as ``object:function``; empty when they are not known."""
        if self.info is None or self.info.patch is None:
            return ()
        return tuple(f"{each.object}:{each.name}" for each in self.info.patch.functions)


def objects_of(info: ModuleInfo) -> tuple[str, ...]:
    """Return the modules that a livepatch patches or depends on, each once, without vmlinux."""
    named = [
        *info.depends,
        *(info.patch.objects if info.patch is not None else ()),
        *(relocations.object for relocations in info.klp_relocations),
        *(symbol.object for symbol in info.klp_symbols),
    ]
    return tuple(dict.fromkeys(name for name in named if name != VMLINUX))


def plan_module(
    name: str,
    path: Path,
    info: ModuleInfo | None,
    *,
    given: Sequence[Target] = (),
    known: Mapping[str, Path],
    params: Sequence[str] = (),
) -> Plan:
    """Return the plan for one module.

    All ``given`` targets are loaded, in their order; then those of its objects that are ``known``
    by name. Raises UsageError when a parameter is malformed or the module does not have it.
    """
    targets = list(given)
    absent: list[str] = []
    for wanted in objects_of(info) if info is not None else ():
        if any(target.name == wanted for target in targets):
            continue
        if wanted in known:
            targets.append(Target(name=wanted, path=known[wanted]))
        else:
            absent.append(wanted)
    return Plan(
        name=name,
        path=path,
        params=dict(_parameter(text, info) for text in params),
        targets=tuple(targets),
        absent=tuple(absent),
        info=info,
    )


def check_params(texts: Sequence[str]) -> None:
    """Raise UsageError for a parameter that is not of the form name=value."""
    for text in texts:
        _parameter(text, None)


def _parameter(text: str, info: ModuleInfo | None) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--param {text!r} is not of the form name=value")
    if info is not None and key not in info.parameters:
        has = ", ".join(info.parameters) or "none"
        raise UsageError(f"{info.name} has no parameter {key}", hint=f"its parameters: {has}")
    return key, value
