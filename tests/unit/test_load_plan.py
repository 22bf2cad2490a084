# SPDX-License-Identifier: GPL-2.0-only
"""What is loaded before a livepatch."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.observe.load_plan import Target, objects_of, plan_module
from harness.vm.elf.klp_structs import PatchContents, PatchedFunction
from harness.vm.elf.module_info import KlpRelocations, KlpSymbol, ModuleInfo

PATCH = Path("/built/klp_test.ko")
KNOWN = {"klp_target_mod": Path("/built/klp_target_mod.ko"), "dep": Path("/built/dep.ko")}


def info(
    *objects: str,
    depends: tuple[str, ...] = (),
    relocations: tuple[str, ...] = (),
    symbols: tuple[str, ...] = (),
    parameters: tuple[str, ...] = (),
    readable: bool = True,
) -> ModuleInfo:
    return ModuleInfo(
        path=PATCH,
        name="klp_test",
        is_livepatch=True,
        vermagic="",
        depends=depends,
        parameters=parameters,
        klp_relocations=tuple(KlpRelocations(object=name, section=".text") for name in relocations),
        klp_symbols=tuple(KlpSymbol(object=name, name="s", sympos=0) for name in symbols),
        patch=PatchContents(
            objects=objects,
            functions=tuple(PatchedFunction(object=name, name="f", sympos=0) for name in objects),
        )
        if readable
        else None,
        undefined=(),
        exported=(),
        symbols={},
    )


def test_every_object_is_found_once() -> None:
    """Dependencies first, then patched objects, then those that only relocations name."""
    found = objects_of(
        info(
            "vmlinux", "a", "b", "a", depends=("dep",), relocations=("c", "vmlinux"), symbols=("d",)
        )
    )
    assert found == ("dep", "a", "b", "c", "d")


def test_samples_are_targets_and_strangers_are_named() -> None:
    """A target without a known file is listed as absent, and does not stop the plan."""
    plan = plan_module("klp_test", PATCH, info("klp_target_mod", "ext4"), known=KNOWN)
    assert [target.name for target in plan.targets] == ["klp_target_mod"]
    assert plan.absent == ("ext4",)
    assert plan.functions == ("klp_target_mod:f", "ext4:f")


def test_given_target_comes_first_and_replaces_the_sample() -> None:
    """--target wins over a sample of the same name, and is loaded even when no object names it."""
    given = (
        Target(name="other", path=Path("/mine/other.ko")),
        Target(name="klp_target_mod", path=Path("/mine/klp_target_mod.ko")),
    )
    plan = plan_module(
        "klp_test", PATCH, info("klp_target_mod", depends=("dep",)), given=given, known=KNOWN
    )
    assert [str(target.path) for target in plan.targets] == [
        "/mine/other.ko",
        "/mine/klp_target_mod.ko",
        "/built/dep.ko",
    ]


def test_file_that_does_not_tell_its_functions() -> None:
    """A patch that fills its structures at run time has no known functions, and still a plan."""
    plan = plan_module("klp_test", PATCH, info(depends=("dep",), readable=False), known=KNOWN)
    assert (plan.functions, [target.name for target in plan.targets]) == ((), ["dep"])


def test_unreadable_file_has_a_plan() -> None:
    """--no-check sends anything; nothing is known of it."""
    plan = plan_module("broken", PATCH, None, known=KNOWN, params=("x=1",))
    assert (plan.targets, plan.params) == ((), {"x": "1"})


def test_parameters_are_checked() -> None:
    """An unknown parameter, which the kernel would ignore, is refused."""
    has = info("vmlinux", parameters=("replace", "text"))
    plan = plan_module("klp_test", PATCH, has, known={}, params=("replace=1", "text=a b=c"))
    assert plan.params == {"replace": "1", "text": "a b=c"}
    for wrong in ("replase=1", "replace", "=1"):
        with pytest.raises(UsageError):
            plan_module("klp_test", PATCH, has, known={}, params=(wrong,))
