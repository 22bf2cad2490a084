# SPDX-License-Identifier: GPL-2.0-only
"""A module that does not suit a kernel is refused on the host, with a sentence that says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import ExitCode, HarnessError, UsageError
from harness.vm.elf.klp_structs import PatchContents, PatchedFunction
from harness.vm.elf.module_info import KlpSymbol, ModuleInfo, read_module
from harness.vm.elf.vmlinux import read_vmlinux
from harness.vm.host.process import run
from harness.vm.kernel.check import check_module, expected_vermagic, find_problems
from harness.vm.kernel.codes import Code
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.kernel import Kernel, image_target

MODULES = Path(__file__).parent / "data/modules"
VERMAGIC = "6.1.192 SMP mod_unload "
EXPORTS = ("klp_enable_patch", "param_ops_bool", "__fentry__", "seq_printf", "seq_puts")

IMAGE = """
const char vermagic[] __attribute__((used)) = "%s";
int cmdline_proc_show(void) { asm volatile(""); return 0; }
int __attribute__((no_instrument_function)) untraced(void) { asm volatile(""); return 0; }
int renamed(void) asm("split.isra.0");
int renamed(void) { asm volatile(""); return 0; }
int some_data = 5;
"""
TWIN = 'static int __attribute__((used%s)) twin(void) { asm volatile(""); return %d; }'


@pytest.fixture(scope="session")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image with the tables of a vmlinux: symbols, call sites of ftrace, vermagic.

    It has two functions named twin: the first traced, the second not.
    """
    folder = tmp_path_factory.mktemp("vmlinux")
    (folder / "a.c").write_text(IMAGE % VERMAGIC + TWIN % ("", 1))
    (folder / "b.c").write_text(TWIN % (", no_instrument_function", 2))
    flags = ["-O2", "-fno-pic", "-no-pie", "-nostdlib", "-static", "-pg", "-mfentry"]
    links = ["-Wl,--defsym=__fentry__=0x1000", "-Wl,--build-id=none", "-Wl,-e,0"]
    table = [
        "-Wl,--defsym=__start_mcount_loc=__start___mcount_loc",
        "-Wl,--defsym=__stop_mcount_loc=__stop___mcount_loc",
    ]
    command = ["gcc", *flags, "-mrecord-mcount", *links, *table, "a.c", "b.c", "-o", "vmlinux"]
    run(command, deadline=Deadline.after(30), cwd=folder)
    return folder / "vmlinux"


@pytest.fixture
def kernel(vmlinux: Path, tmp_path: Path) -> Kernel:
    """A kernel with that image, which exports what the sample patches use."""
    lines = [f"0x0\t{name}\tvmlinux\tEXPORT_SYMBOL_GPL\t\n" for name in EXPORTS]
    (tmp_path / "Module.symvers").write_text("".join(lines))
    return Kernel(
        spec="6.1",
        version="6.1.192",
        digest="d",
        config_digest="c",
        compiler="gcc",
        source="nowhere",
        image=tmp_path / "bzImage",
        vmlinux=vmlinux,
        config=KernelConfig({}),
        build_dir=tmp_path,
        cc="gcc",
        module_digest="d",
    )


@pytest.fixture
def info() -> ModuleInfo:
    """A real livepatch of cmdline_proc_show()."""
    return read_module(MODULES / "klp_test_cmdline_a.ko")


def patching(info: ModuleInfo, name: str, sympos: int = 0, obj: str = "vmlinux") -> ModuleInfo:
    function = PatchedFunction(object=obj, name=name, sympos=sympos)
    return replace(info, patch=PatchContents(objects=(obj,), functions=(function,)))


def codes(info: ModuleInfo, kernel: Kernel, *targets: ModuleInfo) -> list[Code]:
    return [problem.code for problem in find_problems(info, kernel, targets=targets)]


def test_the_image(vmlinux: Path) -> None:
    """An image has symbols by name and address, call sites of ftrace, and the vermagic."""
    image = read_vmlinux(vmlinux)
    assert image.vermagic == VERMAGIC.strip()
    first, second = image.named("twin")
    assert first.address < second.address
    assert (image.is_traceable(first), image.is_traceable(second)) == (True, False)
    assert not image.is_traceable(image.named("untraced")[0])
    assert {"cmdline_proc_show", "twin"} <= image.traceable_functions()
    assert "untraced" not in image.traceable_functions()
    assert not image.named("some_data")[0].is_function
    assert image.named("nothing") == ()


def test_a_module_that_suits(info: ModuleInfo, kernel: Kernel) -> None:
    """A livepatch that suits the kernel has no problem."""
    assert find_problems(info, kernel, expect_livepatch=True) == ()
    check_module(info, kernel, expect_livepatch=True)


def test_a_patch_of_a_module(kernel: Kernel) -> None:
    """A patch of a module is judged by that module's own symbols."""
    gate = read_module(MODULES / "klp_target_gate.ko")
    patch = read_module(MODULES / "klp_test_gate.ko")
    assert codes(patch, kernel, gate) == []


@pytest.mark.parametrize(
    ("vermagic", "words"),
    [
        ("6.1.191 SMP mod_unload", "built for another kernel: 6.1.191, not 6.1.192"),
        ("6.1.192 SMP preempt mod_unload", "configured differently"),
        ("", "does not say which kernel"),
        ("6.1.191 SMP mod_unload modversions", "another kernel"),
    ],
)
def test_a_module_of_another_kernel(
    info: ModuleInfo, kernel: Kernel, vermagic: str, words: str
) -> None:
    """That is its only problem: any other would follow from it."""
    wrong = patching(replace(info, vermagic=vermagic), "nothing")
    (problem,) = find_problems(wrong, kernel)
    assert problem.code is Code.OTHER_KERNEL
    assert words in problem.sentence


def test_vermagic_of_an_image_without_the_string(kernel: Kernel, tmp_path: Path) -> None:
    """The parts of vermagic follow from the configuration (include/linux/vermagic.h)."""
    (tmp_path / "a.c").write_text("int x;")
    run(["gcc", "-c", "a.c", "-o", "vmlinux"], deadline=Deadline.after(30), cwd=tmp_path)
    options = {"SMP": "y", "PREEMPTION": "y", "MODULE_UNLOAD": "y"}
    config = KernelConfig({f"CONFIG_{name}": value for name, value in options.items()})
    other = replace(kernel, vmlinux=tmp_path / "vmlinux", config=config)
    assert expected_vermagic(other) == "6.1.192 SMP preempt mod_unload"


def test_not_a_livepatch(info: ModuleInfo, kernel: Kernel) -> None:
    """An ordinary module is a problem only where a livepatch is expected."""
    plain = replace(info, is_livepatch=False, patch=None)
    assert find_problems(plain, kernel) == ()
    (problem,) = find_problems(plain, kernel, expect_livepatch=True)
    assert problem.code is Code.NOT_A_LIVEPATCH


@pytest.mark.parametrize(
    ("name", "sympos", "expected", "words"),
    [
        ("cmdline_proc_shown", 0, Code.NO_SUCH_FUNCTION, "meant: cmdline_proc_show"),
        ("nothing_like_it", 0, Code.NO_SUCH_FUNCTION, "inlined"),
        ("split", 0, Code.NO_SUCH_FUNCTION, "split.isra.0"),
        ("twin", 0, Code.AMBIGUOUS, "old_sympos to 1 to 2"),
        ("twin", 3, Code.SYMPOS_OUT_OF_RANGE, "has 2"),
        ("cmdline_proc_show", 2, Code.SYMPOS_OUT_OF_RANGE, "has 1"),
        ("twin", 2, Code.NOT_TRACEABLE, "ftrace"),
        ("untraced", 0, Code.NOT_TRACEABLE, "notrace"),
        ("some_data", 0, Code.NOT_TRACEABLE, "ftrace"),
    ],
)
def test_functions_of_vmlinux(
    info: ModuleInfo, kernel: Kernel, name: str, sympos: int, expected: Code, words: str
) -> None:
    """Each problem with a patched function has a code, and a hint that says what to do."""
    (problem,) = find_problems(patching(info, name, sympos), kernel)
    assert problem.code is expected
    assert problem.hint is not None
    assert words in f"{problem.sentence} {problem.hint}"
    assert name in problem.sentence


@pytest.mark.parametrize("sympos", [0, 1])
def test_sympos_names_the_right_one(info: ModuleInfo, kernel: Kernel, sympos: int) -> None:
    """A unique name takes sympos 0 or 1; two of one name are counted by address."""
    assert codes(patching(info, "cmdline_proc_show", sympos), kernel) == []
    assert codes(patching(info, "twin", 1), kernel) == []


def test_functions_of_a_module(info: ModuleInfo, kernel: Kernel) -> None:
    """The same rules hold for a target module that is given; one that is not is not judged."""
    twins = read_module(MODULES / "klp_target_twins.ko")
    notrace = read_module(MODULES / "klp_target_notrace.ko")
    cases = {
        ("klp_twin", 0, "klp_target_twins"): [Code.AMBIGUOUS],
        ("klp_twin", 1, "klp_target_twins"): [],
        ("klp_twin", 2, "klp_target_twins"): [],
        ("klp_twin", 3, "klp_target_twins"): [Code.SYMPOS_OUT_OF_RANGE],
        ("klp_tween", 0, "klp_target_twins"): [Code.NO_SUCH_FUNCTION],
        ("klp_untraced", 0, "klp_target_notrace"): [Code.NOT_TRACEABLE],
        ("klp_traced", 0, "klp_target_notrace"): [],
        ("anything", 0, "comes_later"): [],
    }
    for (name, sympos, target), expected in cases.items():
        assert codes(patching(info, name, sympos, target), kernel, twins, notrace) == expected


def test_a_dependency_that_is_not_given(kernel: Kernel) -> None:
    """The missing module is the only problem, not the symbols that it would export."""
    patch = read_module(MODULES / "klp_test_gate.ko")
    (problem,) = find_problems(patch, kernel)
    assert problem.code is Code.MISSING_DEPENDENCY
    assert "klp_target_gate" in problem.sentence


def test_symbols_that_nobody_exports(info: ModuleInfo, kernel: Kernel) -> None:
    """A symbol that neither the kernel nor a given module exports is a problem."""
    wrong = replace(info, undefined=(*info.undefined, "not_exported"))
    (problem,) = find_problems(wrong, kernel)
    assert problem.code is Code.UNRESOLVED_SYMBOL
    assert "not_exported" in problem.sentence


def test_a_livepatch_relocation_to_nothing(info: ModuleInfo, kernel: Kernel) -> None:
    """A .klp.sym symbol is looked up in vmlinux as the kernel does."""
    good = KlpSymbol(object="vmlinux", name="some_data", sympos=0)
    assert codes(replace(info, klp_symbols=(good,)), kernel) == []
    bad = KlpSymbol(object="vmlinux", name="nothing", sympos=0)
    assert codes(replace(info, klp_symbols=(bad,)), kernel) == [Code.UNRESOLVED_SYMBOL]


def test_check_module(info: ModuleInfo, kernel: Kernel) -> None:
    """The first problem is the message, the others are its details, the exit code is 2."""
    function = PatchedFunction(object="vmlinux", name="untraced", sympos=0)
    other = PatchedFunction(object="vmlinux", name="twin", sympos=0)
    wrong = replace(info, patch=PatchContents(objects=("vmlinux",), functions=(function, other)))
    with pytest.raises(UsageError, match=r"untraced\(\)") as caught:
        check_module(wrong, kernel)
    assert caught.value.exit_code is ExitCode.USAGE
    assert len(caught.value.details) == 1
    assert "twin()" in caught.value.details[0]


def test_an_image_that_cannot_be_read(kernel: Kernel, tmp_path: Path) -> None:
    """It is a failure of the harness, and not of the module."""
    (tmp_path / "vmlinux").write_bytes(b"\x7fELFnothing")
    with pytest.raises(HarnessError, match="no readable kernel image"):
        read_vmlinux(tmp_path / "vmlinux")
    with pytest.raises(HarnessError, match="cannot be read"):
        read_vmlinux(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("symbols", "slowness"),
    [((), 1.0), (("KASAN",), 7.0), (("PROVE_LOCKING",), 3.0), (("KASAN", "PROVE_LOCKING"), 7.0)],
)
def test_a_debug_kernel_has_more_time(
    symbols: tuple[str, ...], slowness: float, kernel: Kernel
) -> None:
    """The most expensive of its checks decides how much."""
    config = KernelConfig({f"CONFIG_{symbol}": "y" for symbol in symbols})
    assert replace(kernel, config=config).slowness == slowness


def test_boot_arguments_of_a_slow_kernel(kernel: Kernel) -> None:
    """Interrupts are not routed by ACPI, unless the kernel would have one CPU without it."""
    slow = {"CONFIG_KASAN": "y", "CONFIG_ACPI": "y"}
    able = {"CONFIG_X86_MPPARSE": "y"}
    assert replace(kernel, config=KernelConfig(slow | able)).boot_args == ("pci=noacpi",)
    assert replace(kernel, config=KernelConfig(slow)).boot_args == ()
    assert replace(kernel, config=KernelConfig({"CONFIG_ACPI": "y", **able})).boot_args == ()


def test_a_kernel_without_acpi_has_where_its_clock_is(kernel: Kernel) -> None:
    """It finds the timer on the command line; with ACPI it finds it itself, and has HPET."""
    timer, acpi = {"CONFIG_X86_PM_TIMER": "y"}, {"CONFIG_ACPI": "y"}
    assert replace(kernel, config=KernelConfig(timer)).boot_args == ("pmtmr=0x608",)
    assert replace(kernel, config=KernelConfig(timer | acpi)).boot_args == ()
    assert replace(kernel, config=KernelConfig({})).boot_args == ()


PVH = {"CONFIG_PVH": "y"}


@pytest.mark.parametrize(
    ("config", "target"),
    [
        (PVH, "vmlinux"),
        ({}, "bzImage"),
        (PVH | {"CONFIG_RANDOMIZE_BASE": "y"}, "bzImage"),
        (PVH | {"CONFIG_DEBUG_INFO": "y"}, "bzImage"),
        (PVH | {"CONFIG_KASAN": "y"}, "bzImage"),
        (PVH | {"CONFIG_KCSAN": "y"}, "bzImage"),
        (PVH | {"CONFIG_KMSAN": "y"}, "bzImage"),
    ],
)
def test_what_is_started(config: dict[str, str], target: str) -> None:
    """QEMU enters vmlinux where nothing is lost by it: a random address, checks of memory, time."""
    assert image_target(KernelConfig(config)) == target
