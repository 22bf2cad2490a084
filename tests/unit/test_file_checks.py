# SPDX-License-Identifier: GPL-2.0-only
"""verify's checks of a file: each is shown with a file that it passes and one that it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.tools.verify import file_checks as host
from harness.tools.verify.risky import risky_functions
from harness.tools.verify.verdict import CheckResult, Code
from harness.vm.elf.klp_structs import PatchContents, PatchedFunction, SystemState
from harness.vm.elf.module_info import KlpSymbol, ModuleInfo
from harness.vm.elf.vmlinux import KernelSymbol, Vmlinux
from harness.vm.kernel.check import Code as Found
from harness.vm.kernel.check import Problem

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


@pytest.mark.parametrize(
    ("licence", "outcome"),
    [
        ("GPL", CheckResult.PASSED),
        ("Dual MIT/GPL", CheckResult.PASSED),
        ("Proprietary", CheckResult.FAILED),
        ("GPLv2", CheckResult.FAILED),
        ("", CheckResult.FAILED),
    ],
)
def test_the_licence_is_one_that_the_kernel_takes(licence: str, outcome: CheckResult) -> None:
    assert host._licence(module(licence=licence)).outcome is outcome


@pytest.mark.parametrize(
    ("options", "signed", "outcome"),
    [
        ((), False, CheckResult.PASSED),
        (("MODULE_SIG",), False, CheckResult.WARNED),
        (("MODULE_SIG", "MODULE_SIG_FORCE"), False, CheckResult.FAILED),
        (("MODULE_SIG", "MODULE_SIG_FORCE"), True, CheckResult.PASSED),
    ],
)
def test_the_signature_is_what_the_kernel_wants(
    options: tuple[str, ...], signed: bool, outcome: CheckResult
) -> None:
    class Config:
        @staticmethod
        def enabled(name: str) -> bool:
            return name in options

    class Kernel:
        config = Config()

    found = host._signature(module(signed=signed), Kernel())  # type: ignore[arg-type]
    assert found.outcome is outcome


def symbols(*wanted: tuple[str, str, int]) -> ModuleInfo:
    found = tuple(KlpSymbol(object=owner, name=name, sympos=pos) for owner, name, pos in wanted)
    return module(klp_symbols=found)


@pytest.mark.parametrize(
    ("symbol", "outcome"),
    [
        (("vmlinux", "f", 0), CheckResult.PASSED),
        (("vmlinux", "twin", 2), CheckResult.PASSED),
        (("vmlinux", "none", 0), CheckResult.FAILED),
        (("vmlinux", "twin", 0), CheckResult.FAILED),
        (("vmlinux", "twin", 3), CheckResult.FAILED),
        (("driver", "g", 1), CheckResult.PASSED),
        (("driver", "h", 0), CheckResult.FAILED),
        (("absent", "h", 0), CheckResult.PASSED),
    ],
)
def test_each_relocation_has_one_symbol(symbol: tuple[str, str, int], outcome: CheckResult) -> None:
    target = module("driver", symbols={"g": (True,)})
    found = host._relocations(symbols(symbol), IMAGE, [target])
    assert found.outcome is outcome
    if outcome is CheckResult.FAILED:
        assert found.code is Code.RELOCATION


def test_a_function_of_init_is_gone() -> None:
    target = module("driver", init_functions=frozenset({"probe"}))
    for info in (module(patch=patch("start")), module(patch=patch("probe", owner="driver"))):
        found = host._functions(info, (), IMAGE, [target])
        assert (found.outcome, found.code) == (CheckResult.FAILED, Code.INIT_FUNCTION)
    assert host._functions(module(), (), IMAGE, [target]).outcome is CheckResult.PASSED


def test_a_list_that_does_not_end_where_it_should_fails() -> None:
    info = module(patch=patch("f", list_faults=("g() behind the end", "m behind the end")))
    found = host._functions(info, (), IMAGE, ())
    assert (found.outcome, found.code) == (CheckResult.FAILED, Code.LIST_END)
    assert found.detail.startswith("g() behind the end: ")
    assert found.lines == ("m behind the end",)


def test_a_function_that_nothing_leads_to_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parent / "data/modules/klp_test_gate.ko"
    assert host._bodies(module(path=path)).outcome is CheckResult.PASSED
    monkeypatch.setattr(host, "unused_functions", lambda _: tuple("abcdefgh"))
    found = host._bodies(module())
    assert (found.outcome, found.code) == (CheckResult.WARNED, Code.UNUSED_BODY)
    assert found.detail.startswith("nothing leads to a(), b(), c(), d(), e(), f() and 2 more: ")
    assert found.lines[-1] == "h()"


def test_what_the_kernel_would_refuse_fails_with_its_own_code() -> None:
    problem = Problem(code=Found.AMBIGUOUS, sentence="two of them", hint="choose")
    found = host._functions(module(), (problem,), IMAGE, ())
    assert (found.code, found.detail, found.advice) == (Code.AMBIGUOUS, "two of them", "choose")
    assert host._symbols((problem,)).outcome is CheckResult.PASSED


def test_every_problem_of_a_file_has_a_place() -> None:
    assert set(host._PLACES) | set(host._NOT_ASKED) == set(Found)


def test_functions_that_sleepers_stand_in_are_a_warning_with_a_reason() -> None:
    found = host._risk(module(patch=patch("f", "schedule")))
    assert (found.outcome, found.code) == (CheckResult.WARNED, Code.ALWAYS_ON_STACK)
    assert found.lines == (f"schedule(): {risky_functions()['schedule']}",)
    of_module = module(patch=patch("schedule", owner="driver"))
    assert host._risk(of_module).outcome is CheckResult.PASSED


def states(*each: tuple[int, int]) -> tuple[SystemState, ...]:
    return tuple(SystemState(id=number, version=version) for number, version in each)


@pytest.mark.parametrize(
    ("mine", "replaces", "outcome", "code"),
    [
        (((1, 2),), True, CheckResult.PASSED, Code.OK),
        (((1, 3),), True, CheckResult.PASSED, Code.OK),
        (((1, 1),), True, CheckResult.FAILED, Code.STATE_VERSION),
        (((1, 1),), False, CheckResult.FAILED, Code.STATE_VERSION),
        ((), True, CheckResult.FAILED, Code.STATE_VERSION),
        ((), False, CheckResult.WARNED, Code.NOT_CUMULATIVE),
    ],
)
def test_states_of_older_patches_are_carried_on(
    mine: tuple[tuple[int, int], ...], replaces: bool, outcome: CheckResult, code: Code
) -> None:
    """klp_is_state_compatible(): a lower version is refused, a missing one if it replaces."""
    old = module("klp_old", patch=patch("f", states=states((1, 2))))
    new = module(patch=patch("f", states=states(*mine), replace=replaces))
    found = host._states(new, [old])
    assert (found.outcome, found.code) == (outcome, code)


def test_a_target_that_is_not_given_is_a_warning() -> None:
    found = host._targets(module(patch=patch("g", owner="driver")), ["driver"])
    assert (found.outcome, found.code) == (CheckResult.WARNED, Code.TARGET_MISSING)
    assert host._targets(module(), ()).outcome is CheckResult.PASSED


@pytest.mark.parametrize("code", [Found.OTHER_KERNEL, Found.NOT_A_LIVEPATCH])
def test_what_is_no_patch_of_this_kernel_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, code: Found
) -> None:
    problem = Problem(code=code, sentence="not that", hint="give another")
    monkeypatch.setattr(host, "find_problems", lambda *_, **__: (problem,))
    with pytest.raises(UsageError, match="not that"):
        host.host_checks(module(), object())  # type: ignore[arg-type]
