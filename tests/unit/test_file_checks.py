# SPDX-License-Identifier: GPL-2.0-only
"""verify's checks of a file: each with a file that passes it and one that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.tools.verify import file_checks, stack_checks
from harness.tools.verify.cold_parts import ColdPart
from harness.vm.elf.klp_structs import PatchContents, PatchedFunction, SystemState
from harness.vm.elf.module_info import KlpSymbol, ModuleInfo
from harness.vm.elf.vmlinux import KernelSymbol, Vmlinux
from harness.vm.kernel.check import Problem
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tools.verify.verdict import Check

COLD = ("cold_bodies", "cold_in_vmlinux", "cold_functions")
IMAGE = Vmlinux(
    {
        "f": (KernelSymbol(0x100, 16, True),),
        "twin": (KernelSymbol(0x200, 16, True), KernelSymbol(0x220, 16, True)),
        "schedule": (KernelSymbol(0x300, 16, True),),
        "start": (KernelSymbol(0x1010, 16, True),),
        "_sinittext": (KernelSymbol(0x1000, 0, False),),
        "_einittext": (KernelSymbol(0x2000, 0, False),),
    },
    (0x100, 0x200, 0x220, 0x300, 0x1010),
    None,
)


def module(name: str = "klp_fix", **changes: object) -> ModuleInfo:
    info = ModuleInfo(
        path=Path(f"{name}.ko"),
        name=name,
        is_livepatch=True,
        vermagic="6.1 SMP",
        depends=(),
        parameters=(),
        klp_relocations=(),
        klp_symbols=(),
        patch=patch("f"),
        undefined=(),
        exported=(),
        symbols={},
        licence="GPL",
    )
    return replace(info, **changes)  # type: ignore[arg-type]


def patch(*names: str, owner: str = "vmlinux", **more: object) -> PatchContents:
    functions = tuple(PatchedFunction(object=owner, name=name, sympos=0) for name in names)
    contents = PatchContents(objects=(owner,), functions=functions)
    return replace(contents, **more)  # type: ignore[arg-type]


class CheckOf(Protocol):
    """Returns one check of a module's file."""

    def __call__(
        self,
        name: str,
        info: ModuleInfo,
        *,
        problems: tuple[Problem, ...] = (),
        options: tuple[str, ...] = (),
        unused: tuple[str, ...] = (),
        cold: Sequence[tuple[ColdPart, ...]] = ((), (), ()),
        symbols: bool = True,
        **others: Any,
    ) -> Check: ...


@pytest.fixture
def check_of(monkeypatch: pytest.MonkeyPatch) -> CheckOf:
    """Check files for a kernel with that image and options, with what else was found in them."""

    def check(
        name: str,
        info: ModuleInfo,
        *,
        problems: tuple[Problem, ...] = (),
        options: tuple[str, ...] = (),
        unused: tuple[str, ...] = (),
        cold: Sequence[tuple[ColdPart, ...]] = ((), (), ()),
        symbols: bool = True,
        **others: Any,
    ) -> Check:
        for name_of, parts in zip(COLD, cold, strict=True):
            monkeypatch.setattr(stack_checks, name_of, lambda *_, found=parts: found)
        monkeypatch.setattr(file_checks, "find_problems", lambda *_, **__: problems)
        monkeypatch.setattr(file_checks, "kernel_symbols", lambda _: IMAGE)
        monkeypatch.setattr(file_checks, "unused_functions", lambda _: unused)
        config = SimpleNamespace(enabled=lambda option: option in options)
        kernel: Any = SimpleNamespace(
            version="6.1",
            vmlinux=Path("vmlinux") if symbols else None,
            symbols=None,
            config=config,
        )
        return next(
            each for each in file_checks.check_file(info, kernel, **others) if each.id == name
        )

    return check


PASSED, WARNED, FAILED = CheckOutcome.PASSED, CheckOutcome.WARNED, CheckOutcome.FAILED


@pytest.mark.parametrize(
    ("licence", "outcome"),
    [
        ("GPL", PASSED),
        ("Dual MIT/GPL", PASSED),
        ("Proprietary", FAILED),
        ("GPLv2", FAILED),
        ("", FAILED),
    ],
)
def test_licence(check_of: CheckOf, licence: str, outcome: CheckOutcome) -> None:
    """A licence passes that license_is_gpl_compatible() accepts, letter by letter."""
    assert check_of("licence", module(licence=licence)).outcome is outcome


@pytest.mark.parametrize(
    ("options", "signed", "outcome"),
    [
        ((), False, PASSED),
        (("MODULE_SIG",), False, WARNED),
        (("MODULE_SIG", "MODULE_SIG_FORCE"), False, FAILED),
        (("MODULE_SIG", "MODULE_SIG_FORCE"), True, PASSED),
    ],
)
def test_signature(
    check_of: CheckOf, options: tuple[str, ...], signed: bool, outcome: CheckOutcome
) -> None:
    """A missing signature is judged as this kernel's configuration judges it."""
    assert check_of("signature", module(signed=signed), options=options).outcome is outcome


@pytest.mark.parametrize(
    ("symbol", "outcome"),
    [
        (("vmlinux", "f", 0), PASSED),
        (("vmlinux", "twin", 2), PASSED),
        (("vmlinux", "none", 0), FAILED),
        (("vmlinux", "twin", 0), FAILED),
        (("vmlinux", "twin", 3), FAILED),
        (("driver", "g", 1), PASSED),
        (("driver", "h", 0), FAILED),
        (("absent", "h", 0), PASSED),
    ],
)
def test_relocations(
    check_of: CheckOf, symbol: tuple[str, str, int], outcome: CheckOutcome
) -> None:
    """Each livepatch relocation has to name one symbol of an object that is known."""
    owner, name, sympos = symbol
    info = module(klp_symbols=(KlpSymbol(object=owner, name=name, sympos=sympos),))
    found = check_of("relocations", info, targets=[module("driver", symbols={"g": (True,)})])
    assert (found.outcome, found.code) == (
        outcome,
        Code.RELOCATION if outcome is FAILED else Code.OK,
    )


def test_init_functions(check_of: CheckOf) -> None:
    """A patch of an __init function fails, of vmlinux and of a module."""
    target = module("driver", init_functions=frozenset({"probe"}))
    for contents, why in (
        (patch("start"), "it has run"),
        (patch("probe", owner="driver"), "cannot be unpatched"),
    ):
        found = check_of("functions", module(patch=contents), targets=[target])
        assert why in found.detail
        assert (found.outcome, found.code) == (FAILED, Code.INIT_FUNCTION)
    assert check_of("functions", module(), targets=[target]).outcome is PASSED


def test_functions_that_the_file_does_not_name(check_of: CheckOf) -> None:
    """A module that fills its structures when it is loaded is not judged by its file."""
    for name in ("functions", "states"):
        assert check_of(name, module(patch=None)).outcome is CheckOutcome.NOT_RUN


def test_list_ends(check_of: CheckOf) -> None:
    """An entry behind the empty one that ends its list is never read by the kernel: it fails."""
    faults = ("an entry stands behind the end", "another does")
    found = check_of("functions", module(patch=patch("f", list_faults=faults)))
    assert (found.outcome, found.code, found.lines) == (FAILED, Code.LIST_END, faults[1:])


def test_unused_functions(check_of: CheckOf) -> None:
    """A function that nothing in the module uses is a warning; a long list is given in full."""
    assert check_of("bodies", module()).outcome is PASSED
    found = check_of("bodies", module(), unused=tuple("abcdefgh"))
    assert (found.outcome, found.code) == (WARNED, Code.UNUSED_BODY)
    assert found.lines == tuple(f"{name}()" for name in "abcdefgh")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (Code.UNRESOLVED_SYMBOL, "symbols"),
        (Code.NO_SUCH_FUNCTION, "functions"),
        (Code.AMBIGUOUS, "functions"),
        (Code.SYMPOS_OUT_OF_RANGE, "functions"),
        (Code.NOT_TRACEABLE, "functions"),
    ],
)
def test_what_the_kernel_would_refuse(check_of: CheckOf, code: Code, name: str) -> None:
    """A problem with the kernel fails the check it belongs to, with its own code and hint."""
    problem = Problem(code=code, sentence="two of them", hint="choose")
    found = check_of(name, module(), problems=(problem,))
    assert (found.code, found.detail, found.advice) == (code, "two of them", "choose")
    other = "functions" if name == "symbols" else "symbols"
    assert check_of(other, module(), problems=(problem,)).outcome is PASSED


@pytest.mark.parametrize("code", [Code.OTHER_KERNEL, Code.NOT_A_LIVEPATCH, Code.MISSING_DEPENDENCY])
def test_what_is_not_judged(check_of: CheckOf, code: Code) -> None:
    """What is no livepatch of this kernel, or lacks a module, is the user's error."""
    problem = Problem(code=code, sentence="not that", hint="give another")
    with pytest.raises(UsageError, match="not that"):
        check_of("file", module(), problems=(problem,))


def test_functions_on_every_stack(check_of: CheckOf) -> None:
    """A patch of such a function of vmlinux is a warning that says why; of a module it is none."""
    found = check_of("stacks", module(patch=patch("f", "schedule")))
    assert (found.outcome, found.code) == (WARNED, Code.ALWAYS_ON_STACK)
    assert [line for line in found.lines if "schedule(): every sleeping task" in line]
    assert check_of("stacks", module(patch=patch("schedule", owner="driver"))).outcome is PASSED


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("exit_task_stack_account", "it has left the list of tasks"),
        ("idle_inject_fn", "injects idle time"),
    ],
)
def test_functions_of_tasks_that_nobody_watches(check_of: CheckOf, name: str, why: str) -> None:
    """A transition does not see them, or switches them without a look: a warning of its own."""
    found = check_of("stacks", module(patch=patch("f", name)))
    assert (found.outcome, found.code) == (WARNED, Code.UNWATCHED_TASK)
    assert why in found.detail
    assert "loaded for good" in str(found.advice)


def test_cold_parts(check_of: CheckOf) -> None:
    """Of the patch's own bodies first, since those are unloaded; of old functions, each object."""
    part = ColdPart(function="g", sleeps="msleep")
    found = check_of("cold-parts", module(), cold=((part,), (), ()))
    assert (found.outcome, found.code) == (WARNED, Code.COLD_PART)
    assert "g() of the patch has a part g.cold, which calls msleep()" in found.detail
    assert "-fno-reorder-blocks-and-partition" in str(found.advice)
    found = check_of("cold-parts", module(), cold=((), (part,), ()))
    assert "g() of vmlinux" in found.detail
    assert "when the patch is enabled" in found.detail
    found = check_of(
        "cold-parts", module(), cold=((part,), (part,), (part,)), targets=[module("t")]
    )
    assert len(found.lines) == 3
    assert "g() of t" in found.lines[2]
    assert check_of("cold-parts", module()).outcome is PASSED
    assert check_of("cold-parts", module(patch=None)).outcome is CheckOutcome.NOT_RUN


def test_cold_parts_of_a_kernel_without_symbols(check_of: CheckOf) -> None:
    """What was not looked at is said; a patch of modules alone has nothing there."""
    said = check_of("cold-parts", module(), symbols=False).detail
    assert "kernel's own functions were not looked at" in said
    of_module = module(patch=patch("f", owner="driver"))
    assert "looked at" not in check_of("cold-parts", of_module, symbols=False).detail


def test_functions_of_a_kernel_without_symbols(check_of: CheckOf) -> None:
    """What is left to the kernel is said; of a patch of modules alone nothing is."""
    said = check_of("functions", module(), symbols=False).detail
    assert "6.1 comes without its symbols" in said
    assert "symbols" not in check_of("functions", module()).detail
    of_module = module(patch=patch("f", owner="driver"))
    assert "symbols" not in check_of("functions", of_module, symbols=False).detail


@pytest.mark.parametrize(
    ("mine", "lower", "upper", "outcome"),
    [
        (True, patch("f"), patch("f"), WARNED),
        (True, patch("f", replace=True), patch("f", "g"), WARNED),
        (True, patch("f", replace=True), patch("f", replace=True), PASSED),
        (True, patch("f"), patch("g"), PASSED),
        (True, patch("f"), patch("f", owner="driver"), PASSED),
        (False, patch("f"), patch("f"), PASSED),
    ],
)
def test_a_patch_below_a_forced_one(
    check_of: CheckOf,
    *,
    mine: bool,
    lower: PatchContents,
    upper: PatchContents,
    outcome: CheckOutcome,
) -> None:
    """An atomic replace of two patches of one function, of which the upper one replaced nothing."""
    older = [module("lower", patch=lower), module("upper", patch=upper)]
    found = check_of("forced-below", module(patch=patch("f", replace=mine)), older=older)
    assert found.outcome is outcome
    if outcome is WARNED:
        assert found.code is Code.FORCED_BELOW
        assert "f() of vmlinux" in found.detail


def states(*each: tuple[int, int]) -> tuple[SystemState, ...]:
    return tuple(SystemState(id=number, version=version) for number, version in each)


@pytest.mark.parametrize(
    ("mine", "replaces", "outcome", "code"),
    [
        (((1, 2),), True, PASSED, Code.OK),
        (((1, 3),), True, PASSED, Code.OK),
        (((1, 1),), True, FAILED, Code.STATE_VERSION),
        (((1, 1),), False, FAILED, Code.STATE_VERSION),
        ((), True, FAILED, Code.STATE_VERSION),
        ((), False, WARNED, Code.NOT_CUMULATIVE),
    ],
)
def test_system_states(
    check_of: CheckOf,
    mine: tuple[tuple[int, int], ...],
    replaces: bool,
    outcome: CheckOutcome,
    code: Code,
) -> None:
    """klp_is_state_compatible(): a lower version is refused, a missing one if it replaces."""
    old = module("klp_old", patch=patch("f", states=states((1, 2))))
    new = module(patch=patch("f", states=states(*mine), replace=replaces))
    found = check_of("states", new, older=[old])
    assert (found.outcome, found.code) == (outcome, code)


def test_targets(check_of: CheckOf) -> None:
    """A target that is not given is a warning, since its part of the patch is not tested."""
    found = check_of("targets", module(patch=patch("g", owner="driver")), absent=["driver"])
    assert (found.outcome, found.code) == (WARNED, Code.TARGET_MISSING)
    assert check_of("targets", module()).outcome is PASSED
