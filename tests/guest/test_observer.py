# SPDX-License-Identifier: GPL-2.0-only
"""The kernel observed from QEMU: what one test runs, and a kernel that is not consistent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import ConsistencyViolated
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch
from harness.observer.coverage import BOOT
from harness.observer.oracle import Oracle
from harness.observer.watch import Watch, name_test, require_translation
from harness.pytest_plugin.options import choose, guest_settings
from harness.resources import Resource, resource_dir
from harness.vm.guest import runs
from harness.vm.guest.session import Session
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.module import obtain_modules
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel

CORE, SHADOW = "kernel/livepatch/core.c", "kernel/livepatch/shadow.c"
BETWEEN = 5
PAIR = "/sys/kernel/klp_pair"
_KERNEL_S = 1800.0


@pytest.fixture
def watch(tmp_path: Path, pytestconfig: pytest.Config) -> Watch:
    require_translation(choose(pytestconfig), "--coverage")
    return Watch(folder=tmp_path / "observed", store=runs.store())


@pytest.mark.slow(12)
def test_coverage_outlives_a_guest_that_is_killed(
    kernel: Kernel,
    sample_modules: Mapping[str, Path],
    watch: Watch,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """A clone's QEMU is killed while it runs; what its test had run until then is known."""
    settings = guest_settings(pytestconfig)
    with (
        Session(tmp_path / "run", settings, runs.store(), plugins=watch) as session,
        session.guest(kernel, spare=False) as guest,
    ):
        name_test(guest.hypervisor.observed, "the test")
        Livepatch(guest, modules=sample_modules).load("klp_test_cmdline_a").wait_complete()
        guest.hypervisor.kill()
        coverage = watch.collect(kernel)
    assert coverage.notes == ()
    assert [test.name for test in coverage.tests] == [BOOT, "the test"]
    files = {file.name: file for file in coverage.files}
    init = next(each.line for each in files[CORE].functions if each.name == "klp_init")
    functions = {each.name: each.count for each in files[CORE].functions}
    assert functions["klp_enable_patch"] == 1
    assert functions["klp_init"] == 1
    assert functions["force_store"] == 0
    assert files[SHADOW].lines_run == 0
    (boot, test) = coverage.tests
    assert min(boot.lines[CORE]) >= init
    assert max(test.lines[CORE]) < init


OWN = """\
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static noinline int own_show(struct seq_file *m, void *v)
{
\tif (!m->private)
\t\treturn 0;
\tseq_puts(m, "shown\\n");
\treturn 0;
}

static struct klp_func funcs[] = { { .old_name = "cmdline_proc_show", .new_func = own_show }, { } };
static struct klp_object objs[] = { { .funcs = funcs }, { } };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objs };

static int __init own_init(void)
{
\treturn klp_enable_patch(&patch);
}

static void __exit own_exit(void)
{
}

module_init(own_init);
module_exit(own_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""


@pytest.mark.slow(20)
def test_lines_of_the_livepatch_itself(
    kernel: Kernel, watch: Watch, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """What ran of a livepatch is counted by its lines, from the load to the end of the unload."""
    sources = tmp_path / "own"
    sources.mkdir()
    (sources / "own.c").write_text(OWN)
    (sources / "Kbuild").write_text("obj-m += own.o\n")
    built = obtain_modules(
        kernel,
        sources,
        variables=("CFLAGS_MODULE=-g -gdwarf-4",),
        store=runs.store(),
        deadline=Deadline.after(_KERNEL_S),
    )
    watch = replace(watch, livepatches=((built["own"], sources),))
    settings = guest_settings(pytestconfig)
    with Session(tmp_path / "run", settings, runs.store(), watch=watch) as session:
        for reads in (0, 3):
            with session.guest(kernel, name=f"reads-{reads}") as guest:
                patch = Livepatch(guest).load(built["own"], wait=True)
                for _ in range(reads):
                    assert not guest.read("/proc/cmdline")
                patch.disable()
                patch.unload()
        coverage = watch.collect(kernel)
    own = coverage.files[0]
    assert own.name == "own.c"
    assert own.text == tuple(OWN.splitlines())
    counts = {own.text[line.line - 1].strip(): line.count for line in own.lines}
    assert counts["return klp_enable_patch(&patch);"] == 2
    assert counts["if (!m->private)"] >= 3
    assert counts['seq_puts(m, "shown\\n");'] == 0
    ran = {test.name: test.lines.get("own.c", ()) for test in coverage.tests}
    shown = next(n for n, text in enumerate(own.text, 1) if "m->private" in text)
    assert [name for name, lines in ran.items() if shown in lines] == ["reads-3"]


def between_the_two(guest: Machine, livepatch: Livepatch) -> None:
    """A task sleeps between the calls of two functions while both are being patched."""
    livepatch.load_target("klp_target_gate")
    livepatch.load_target("klp_target_pair")
    gates = Gates(guest)
    gates.close(BETWEEN)
    sleeper = guest.spawn("cat", f"{PAIR}/gate")
    gates[BETWEEN].await_task(sleeper.pid)
    livepatch.load("klp_test_pair")
    gates.open(BETWEEN)
    sleeper.next_line(guest.scaled(10))


@pytest.mark.slow(40)
def test_oracle_reports_a_kernel_that_is_not_consistent(
    kernel: Kernel,
    sample_modules: Mapping[str, Path],
    watch: Watch,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """On a kernel that switches all at once a task runs a version that its state excludes.

    The same on the kernel without that patch violates nothing.
    """
    mutant = resource_dir(Resource.KERNEL_MUTANTS) / "null-model-d83a7cb3.patch"
    broken = obtain_kernel(
        KernelRequest(spec=kernel.spec, patches=(mutant,)),
        store=runs.store(),
        deadline=Deadline.after(_KERNEL_S),
        progress=LineProgress(print),
    )
    oracle = replace(watch, files=(), oracle=True)
    settings = guest_settings(pytestconfig)
    with Session(tmp_path / "run", settings, runs.store(), plugins=oracle) as session:
        with session.guest(kernel, spare=False) as guest:
            judge = Oracle(guest, oracle.points(kernel))
            between_the_two(guest, Livepatch(guest, modules=sample_modules))
            verdict = judge.check()
        assert verdict.transitions == 1
        assert verdict.entries["the original of klp_pair_g()"] == 1
        with session.guest(broken, spare=False) as guest:
            judge = Oracle(guest, oracle.points(broken))
            between_the_two(guest, Livepatch(guest, modules=sample_modules))
            with pytest.raises(
                ConsistencyViolated, match=r"cat \(\d+\) enters .* in patch state 0"
            ):
                judge.check()


@pytest.mark.slow(8)
def test_the_fixture_judges_without_the_option(
    guest: Machine, livepatch: Livepatch, oracle: Oracle
) -> None:
    """A test that asks for the oracle is observed, in a run that did not ask."""
    livepatch.load("klp_test_cmdline_a", wait=True)
    guest.read("/proc/cmdline")
    verdict = oracle.check()
    assert verdict.transitions == 1
    assert verdict.entries["klp_test_cmdline_a's version of cmdline_proc_show()"] > 0
    assert verdict.holds
