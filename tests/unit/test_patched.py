# SPDX-License-Identifier: GPL-2.0-only
"""Patched kernels, on the tree that mimics Kbuild: what is built, and what must never change."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from harness.errors import KernelBuildFailed, PatchDoesNotApply, UsageError
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.inventory import list_kernels, prune_kernels
from harness.vm.kernel.patch_file import changed_files, changes_options, modules_see, read_patch
from tests.unit.fake_tree import vmlinux_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

    Obtain = Callable[..., Kernel]
    Fork = Callable[[Callable[[], object]], int]

CORE = "kernel/livepatch/core.c"
LINES = [f"int line_{number};\n" for number in range(1, 10)]


@pytest.fixture
def tree(fake_tree: Path) -> Path:
    """The fake tree with a source of some lines, and a header that modules see."""
    (fake_tree / CORE).write_text("".join(LINES))
    (fake_tree / "include/linux").mkdir(parents=True)
    (fake_tree / "include/linux/livepatch.h").write_text("struct klp_patch;\n")
    return fake_tree


@pytest.fixture
def obtain(
    store: Store, tree: Path, guest_fragment: Path, soon: Deadline, recorder: Progress
) -> Obtain:
    """Obtain the fake kernel with patches."""

    def call(*patches: Path, more: tuple[str, ...] = ()) -> Kernel:
        request = KernelRequest(
            spec=str(tree), fragments=(str(guest_fragment), *more), patches=tuple(patches)
        )
        return obtain_kernel(request, store=store, deadline=soon, progress=recorder)

    return call


def diff(folder: Path, name: str, *, line: int = 5, file: str = CORE, context: str = "") -> Path:
    """Write a patch that changes one line; ``context`` spoils the lines around it."""
    text = "".join(
        [
            "Why: a test.\n---\n",
            f"--- a/{file}\n+++ b/{file}\n@@ -{line - 1},3 +{line - 1},3 @@\n",
            f" int line_{line - 1};{context}\n",
            f"-int line_{line};\n+int {name.partition('.')[0]};\n",
            f" int line_{line + 1};{context}\n",
        ]
    )
    path = folder / name
    path.write_text(text)
    return path


def _header(folder: Path) -> Path:
    """Write a patch of a header that modules see."""
    patch = folder / "header.patch"
    patch.write_text(
        "--- a/include/linux/livepatch.h\n+++ b/include/linux/livepatch.h\n"
        "@@ -1 +1,2 @@\n struct klp_patch;\n+struct klp_more;\n"
    )
    return patch


def state_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what would show that a cached kernel was written to."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".checked"
    }


def test_a_patched_kernel(obtain: Obtain, tmp_path: Path, tree: Path) -> None:
    """It has the patch in it and in its name; its modules are those of the clean kernel."""
    clean = obtain()
    kernel = obtain(diff(tmp_path, "broken_rule.patch"))
    assert vmlinux_of(kernel).read_text() == "".join(LINES).replace("line_5", "broken_rule")
    assert kernel.describe() == f"6.1.0-fake (the tree {tree}, with guest + broken_rule.patch)"
    assert kernel.digest != clean.digest
    assert kernel.module_digest == clean.digest
    assert kernel.build_dir == clean.build_dir
    assert kernel.image.is_file()


def test_what_starts_as_vmlinux_has_no_image(obtain: Obtain, tmp_path: Path) -> None:
    """Nor has the patched kernel that gets a build of its own, as its modules need."""
    pvh = tmp_path / "pvh.config"
    pvh.write_text("CONFIG_PVH=y\n")
    kernel = obtain(diff(tmp_path, "patch.patch"), more=(str(pvh),))
    assert kernel.image == kernel.vmlinux
    assert not list(kernel.image.parent.rglob("bzImage"))
    own = obtain(_header(tmp_path), diff(tmp_path, "patch.patch"), more=(str(pvh),))
    assert own.image == own.vmlinux
    assert "int patch;" in own.image.read_text()
    assert not list(own.build_dir.rglob("bzImage"))


def test_the_clean_kernel_stays_as_it_was(obtain: Obtain, tmp_path: Path) -> None:
    """No file of the cached kernel changes, and the next patch starts from clean sources."""
    entry = obtain().build_dir.parent.parent
    before = state_of(entry)
    obtain(diff(tmp_path, "first.patch"))
    second = obtain(diff(tmp_path, "second.patch", line=8))
    assert state_of(entry) == before
    assert "first" not in vmlinux_of(second).read_text()


def test_several_patches_in_their_order(obtain: Obtain, tmp_path: Path) -> None:
    """Each applies to what the ones before it left; another order is another kernel."""
    one, two = diff(tmp_path, "one.patch"), diff(tmp_path, "two.patch", line=8)
    kernel = obtain(one, two)
    assert {"int one;", "int two;"} <= set(vmlinux_of(kernel).read_text().splitlines())
    assert kernel.source.endswith(" + one.patch + two.patch")
    assert obtain(two, one).digest != kernel.digest
    with pytest.raises(PatchDoesNotApply, match=r"one\.patch does not apply to 6\.1\.0-fake"):
        obtain(one, one)


def test_the_second_time_it_comes_from_the_cache(obtain: Obtain, tmp_path: Path) -> None:
    """The same patch again builds nothing."""
    patch = diff(tmp_path, "a.patch")
    first = obtain(patch)
    times = state_of(first.image.parent)
    assert obtain(patch).image == first.image
    assert state_of(first.image.parent) == times


def test_a_header_that_modules_see(obtain: Obtain, tmp_path: Path) -> None:
    """Modules are then built against sources and build of the patched kernel's own."""
    clean, kernel = obtain(), obtain(_header(tmp_path))
    assert kernel.module_digest == kernel.digest
    assert kernel.build_dir != clean.build_dir
    own = kernel.build_dir.parent
    assert "klp_more" in (own / "include/linux/livepatch.h").read_text()
    assert (own / CORE).stat().st_ino == (clean.build_dir.parent / CORE).stat().st_ino
    assert (kernel.build_dir / "Module.symvers").is_file()
    # The build was moved there: its Makefile must not name the place where make ran.
    assert "workspace" not in (kernel.build_dir / "Makefile").read_text()


def test_files_that_are_added_and_removed(obtain: Obtain, tmp_path: Path) -> None:
    """A patch may add a file in a new folder, and remove one; both are undone afterwards."""
    patch = tmp_path / "files.patch"
    patch.write_text(
        "--- /dev/null\n+++ b/kernel/livepatch/new/more.c\n@@ -0,0 +1 @@\n+int more;\n"
        f"--- a/{CORE}\n+++ /dev/null\n@@ -1,9 +0,0 @@\n" + "".join(f"-{line}" for line in LINES)
    )
    with pytest.raises(KernelBuildFailed):
        obtain(patch)
    [workspace] = obtain().image.parents[6].parent.glob("workspace/*/linux")
    assert not (workspace / "kernel/livepatch/new").exists()
    assert (workspace / CORE).read_text() == "".join(LINES)


def test_a_patch_that_fits_only_with_fuzz(obtain: Obtain, tmp_path: Path, store: Store) -> None:
    """Lines around the change that differ are a patch for other sources."""
    with pytest.raises(PatchDoesNotApply, match="without fuzz") as caught:
        obtain(diff(tmp_path, "fuzzy.patch", context=" /* other */"))
    assert caught.value.exit_code == 2
    assert len(list_kernels(store)) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hello\n", "holds no unified diff"),
        ("", "holds no unified diff"),
        ("--- a/x.c\n+++ b/x.c\n@@ -1,3 +1,3 @@\n one\n", "cut off or damaged in line 5"),
        ("--- a/../x.c\n+++ b/../x.c\n@@ -1 +1 @@\n-a\n+b\n", "no path in a kernel tree"),
        ("--- /etc/x\n+++ /etc/x\n@@ -1 +1 @@\n-a\n+b\n", "no path in a kernel tree"),
        ("--- x.c\n+++ x.c\n@@ -1 +1 @@\n-a\n+b\n", "no path in a kernel tree"),
        ("diff --git a/x b/y\nrename from x\nrename to y\n", "renames or copies"),
    ],
)
def test_what_is_no_patch(content: str, said: str, obtain: Obtain, tmp_path: Path) -> None:
    """It is told before anything is built."""
    (tmp_path / "bad.patch").write_text(content)
    with pytest.raises(PatchDoesNotApply, match=said):
        obtain(tmp_path / "bad.patch")


def test_a_patch_that_is_not_there(obtain: Obtain, tmp_path: Path) -> None:
    """The file is named."""
    with pytest.raises(UsageError, match=r"none\.patch cannot be read: No such file"):
        obtain(tmp_path / "none.patch")


def test_a_finished_build_takes_no_patch(
    obtain: Obtain, tmp_path: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """build:DIR has no sources that the harness may change."""
    request = KernelRequest(
        spec=f"build:{obtain().build_dir}", patches=(diff(tmp_path, "a.patch"),)
    )
    with pytest.raises(UsageError, match="it cannot be patched"):
        obtain_kernel(request, store=store, deadline=soon, progress=recorder)


def test_a_patch_that_does_not_build(obtain: Obtain, tmp_path: Path) -> None:
    """The errors are told, and the next patch finds clean sources."""
    patch = tmp_path / "wrong.patch"
    patch.write_text("--- /dev/null\n+++ b/broken\n@@ -0,0 +1 @@\n+x.c:1: error: no\n")
    with pytest.raises(KernelBuildFailed, match=r"wrong\.patch does not build") as caught:
        obtain(patch)
    assert caught.value.details == ("x.c:1: error: no",)
    assert obtain(diff(tmp_path, "next.patch")).image.is_file()


def test_kill_9_while_a_patched_kernel_is_built(
    obtain: Obtain, tmp_path: Path, store: Store, in_child: Fork, soon: Deadline
) -> None:
    """The clean kernel is unchanged, and the next build starts from clean sources."""
    entry = obtain().build_dir.parent.parent
    before = state_of(entry)
    patch = tmp_path / "slow.patch"
    patch.write_text(
        "--- /dev/null\n+++ b/slow\n@@ -0,0 +1 @@\n+wait\n" + diff(tmp_path, "x.patch").read_text()
    )
    child = in_child(lambda: obtain(patch))
    assert wait_until(lambda: any(store.root.glob("workspace/*/linux/slow")), soon)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert state_of(entry) == before
    assert "int x;" not in vmlinux_of(obtain(diff(tmp_path, "after.patch", line=8))).read_text()
    assert not list(store.root.glob("workspace/*/linux/slow"))


def test_pruning_takes_the_workspace_too(obtain: Obtain, tmp_path: Path, store: Store) -> None:
    """It is worth nothing without its kernel."""
    obtain(diff(tmp_path, "a.patch"))
    for entry in store.entries("kernel") + store.entries("source"):
        store.release(entry.kind, entry.key)
    prune_kernels(store)
    assert not [path for path in store.root.glob("workspace/*") if path.is_dir()]


def test_tools_learn_their_new_place(obtain: Obtain, tmp_path: Path) -> None:
    """A command saved by tools/build names the workspace, or objtool would be built again."""
    clean = obtain()
    saved = clean.build_dir / "tools/objtool/.check.o.cmd"
    saved.parent.mkdir(parents=True)
    place = "/elsewhere/.partial-1/linux"
    saved.write_text(
        f"cmd_{place}/klp-build/tools/objtool/check.o := gcc -MD,{place}/klp-build/tools/x.d "
        f"-I{place}/tools/include\n"
    )
    patch = tmp_path / "keep.patch"
    patch.write_text("--- /dev/null\n+++ b/include/linux/x.h\n@@ -0,0 +1 @@\n+int x;\n")
    kernel = obtain(patch)
    text = (kernel.build_dir / "tools/objtool/.check.o.cmd").read_text()
    assert "elsewhere" not in text
    assert text.count("/workspace/") == 3
    assert "elsewhere" in saved.read_text()


@pytest.mark.parametrize(
    ("file", "seen"),
    [
        (CORE, False),
        ("kernel/livepatch/core.h", False),
        ("arch/x86/kernel/ftrace_64.S", False),
        ("include/linux/livepatch.h", True),
        ("arch/x86/include/asm/livepatch.h", True),
        ("kernel/livepatch/Kconfig", True),
        ("Makefile", True),
        ("scripts/mod/modpost.c", True),
        ("arch/x86/kernel/asm-offsets.c", True),
    ],
)
def test_what_modules_see(file: str, seen: bool) -> None:
    """Headers in include folders, options, and what makes a build."""
    assert modules_see([file]) is seen
    assert changes_options([file]) is file.endswith("Kconfig")


def test_files_of_a_git_patch() -> None:
    """A mail around it, dates after names, new and removed files, and lines that look like more."""
    text = (
        "From: somebody\n\n--- not a header\n\ndiff --git a/x.c b/x.c\nindex 1..2 100644\n"
        "--- a/x.c\t2024-01-01\n+++ b/x.c\n@@ -1,2 +1,2 @@ int f(void)\n--- a/no.c\n+++ b/no.c\n"
        " same\n--- /dev/null\n+++ b/d/new.c\n@@ -0,0 +1 @@\n+int y;\n-- \n2.39\n"
    )
    assert changed_files(text.encode(), "x.patch") == ("x.c", "d/new.c")


def test_text_before_the_diff_makes_no_other_kernel(tmp_path: Path) -> None:
    """A mutant whose header names one more series is not built again."""
    digests = []
    for head, last in (("", "one"), ("Kernels: 6.1\n\n", "one"), ("", "two")):
        file = tmp_path / "x.patch"
        file.write_text(f"{head}--- a/x.c\n+++ b/x.c\n@@ -0,0 +1 @@\n+{last}\n")
        digests.append(read_patch(file).digest)
    assert digests[0] == digests[1] != digests[2]
