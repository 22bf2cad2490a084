# SPDX-License-Identifier: GPL-2.0-only
"""A kernel is resolved once in a run: whatever is edited meanwhile, all processes test the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, UsageError
from harness.pytest_plugin.kernels import GivenKernels, kernel_of_run
from harness.pytest_plugin.options import PLAN, RunPlan
from harness.vm.host.cache import Store
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.resolved import ResolvedKernel, open_kernel
from tests.unit.finished_kernels import host_programs, write_files

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.vm.kernel.kernel import Kernel

pytest_plugins = ["pytester"]

CORE = "kernel/livepatch/core.c"
PATCH = f"""\
--- a/{CORE}
+++ b/{CORE}
@@ -1 +1,2 @@
 /* SPDX-License-Identifier: GPL-2.0-only */
+int more;
"""
EACH_WORKER = """
import os, pathlib, time
import pytest
from harness.pytest_plugin import fixtures
from harness.vm.kernel.build import KernelRequest

# The fake tree has no more options than this fragment.
fixtures.KernelRequest = lambda spec, **_: KernelRequest(spec=spec, fragments=({fragment!r},))

@pytest.fixture(scope="session", autouse=True)
def edited_between_the_workers():
    if os.environ["PYTEST_XDIST_WORKER"] == "gw1":
        end = time.monotonic() + 40
        while not pathlib.Path("gw0").exists() and time.monotonic() < end:
            time.sleep(0.01)
        with open({core!r}, "a") as file:
            file.write("int edited;")

def test_it(kernel):
    worker = os.environ["PYTEST_XDIST_WORKER"]
    pathlib.Path(worker + ".new").write_text(kernel.digest)
    pathlib.Path(worker + ".new").rename(worker)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The cache that the run's processes use."""
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(tmp_path / "cache"))
    return Store(tmp_path / "cache")


@pytest.fixture
def wanted(fake_tree: Path, guest_fragment: Path) -> KernelRequest:
    """A request for the fake tree, as `--kernel ./linux` is one."""
    return KernelRequest(spec=str(fake_tree), fragments=(str(guest_fragment),))


def facts(kernel: Kernel) -> dict[str, object]:
    """All that is known of a kernel; its configuration by its digest."""
    return {name: value for name, value in vars(kernel).items() if name != "config"}


def edit(tree: Path) -> None:
    with (tree / CORE).open("a") as file:
        file.write("int edited;\n")


def test_the_first_process_decides(
    wanted: KernelRequest, fake_tree: Path, tmp_path: Path, recorder: Any
) -> None:
    """After an edit of the tree the run goes on with what it began with; the next run does not."""
    first = kernel_of_run(tmp_path / "run", wanted, recorder)
    edit(fake_tree)
    assert facts(kernel_of_run(tmp_path / "run", wanted, recorder)) == facts(first)
    assert kernel_of_run(tmp_path / "other", wanted, recorder).digest != first.digest


def test_workers_have_one_kernel(
    pytester: pytest.Pytester,
    fake_tree: Path,
    guest_fragment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tree is edited after one worker has its kernel and before the other asks for it."""
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path / "runs"))
    pytester.makepyfile(
        EACH_WORKER.format(core=str(fake_tree / CORE), fragment=str(guest_fragment))
    )
    ran = pytester.runpytest_subprocess(
        *("--dist", "each", "--tx", "2*popen", f"--kernel={fake_tree}"), timeout=300
    )
    ran.assert_outcomes(passed=2)
    assert (pytester.path / "gw0").read_text() == (pytester.path / "gw1").read_text()
    assert list((tmp_path / "runs").iterdir()) == [], "nothing is left of the run"


def test_the_controller_decides_for_its_workers(
    wanted: KernelRequest, fake_tree: Path, tmp_path: Path, recorder: Any, soon: Deadline
) -> None:
    """What a command has built is what its tests run on; a path of a patch may be written anew."""
    patch = tmp_path / "more.patch"
    patch.write_text(PATCH)
    given = KernelRequest(spec=wanted.spec, fragments=wanted.fragments, patches=(patch,))
    made = obtain_kernel(given, store=Store(tmp_path / "cache"), deadline=soon, progress=recorder)
    plan = RunPlan(folder=tmp_path, kernels=tmp_path / "kernels", guests=2)
    config: Any = SimpleNamespace(stash=pytest.Stash())
    config.stash[PLAN] = plan
    GivenKernels({given: made}).pytest_configure(config)
    edit(fake_tree)
    assert facts(kernel_of_run(plan.kernels, given, recorder)) == facts(made)


@pytest.mark.parametrize("patched", [False, True])
def test_a_kernel_is_opened_again(
    patched: bool,
    wanted: KernelRequest,
    cache: Store,
    tmp_path: Path,
    recorder: Any,
    soon: Deadline,
) -> None:
    """By its digest alone, all that is known of it is the same."""
    patch = tmp_path / "more.patch"
    patch.write_text(PATCH)
    request = KernelRequest(
        spec=wanted.spec, fragments=wanted.fragments, patches=(patch,) if patched else ()
    )
    made = obtain_kernel(request, store=cache, deadline=soon, progress=recorder)
    assert facts(open_kernel(ResolvedKernel.of(made, cache), cache)) == facts(made)


def built(request: KernelRequest, cache: Store, recorder: Any, soon: Deadline) -> Kernel:
    """A finished build of the fake tree, which is not in the cache."""
    kernel = obtain_kernel(request, store=cache, deadline=soon, progress=recorder)
    folder = cache.root.parent / "build"
    shutil.copytree(kernel.build_dir, folder)
    write_files(folder, host_programs())
    image = bytearray(0x240)
    image[0x202:0x206], image[0x236] = b"HdrS", 1
    (folder / "arch/x86/boot/bzImage").write_bytes(image)
    with (folder / ".config").open("a") as config:
        config.write("CONFIG_STACKTRACE=y\nCONFIG_HAVE_RELIABLE_STACKTRACE=y\n")
    request = KernelRequest(spec=f"build:{folder}")
    return obtain_kernel(request, store=cache, deadline=soon, progress=recorder)


def test_a_finished_build_is_opened_where_it_lies(
    wanted: KernelRequest, cache: Store, recorder: Any, soon: Deadline
) -> None:
    """One that was made anew during the run is another kernel, and is refused."""
    kernel = built(wanted, cache, recorder, soon)
    resolved = ResolvedKernel.of(kernel, cache)
    assert facts(open_kernel(resolved, cache)) == facts(kernel)
    (kernel.build_dir / "Module.symvers").write_text("0x1 another vmlinux EXPORT_SYMBOL\n")
    with pytest.raises(UsageError, match="was changed during the run"):
        open_kernel(resolved, cache)


def test_a_kernel_that_was_removed_is_not_built_again(tmp_path: Path) -> None:
    """Another kernel of the same name would be another kernel."""
    gone = ResolvedKernel(spec="6.1", digest="0" * 32)
    with pytest.raises(HarnessError, match="is no longer in the cache"):
        open_kernel(gone, Store(tmp_path / "cache"))
