# SPDX-License-Identifier: GPL-2.0-only
"""Modules built from source, against the fake kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import KernelBuildFailed, UsageError
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.inventory import prune_kernels
from harness.vm.kernel.module import obtain_modules

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress


@pytest.fixture
def kernel(
    store: Store, fake_tree: Path, guest_fragment: Path, soon: Deadline, recorder: Progress
) -> Kernel:
    """The fake kernel."""
    request = KernelRequest(spec=str(fake_tree), fragments=(str(guest_fragment),))
    return obtain_kernel(request, store=store, deadline=soon, progress=recorder)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Two modules."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "Kbuild").write_text("obj-m += one.o two.o\n")
    (folder / "one.c").write_text("one\n")
    (folder / "two.c").write_text("two\n")
    return folder


def test_all_modules_of_a_folder(
    kernel: Kernel, sources: Path, store: Store, soon: Deadline
) -> None:
    """Name to .ko, with the log of the build, and nothing written beside the sources."""
    before = sorted(sources.iterdir())
    modules = obtain_modules(kernel, sources, store=store, deadline=soon)
    assert {name: path.read_text() for name, path in modules.items()} == {
        "one": "one\n",
        "two": "two\n",
    }
    assert sorted(sources.iterdir()) == before
    assert "CC [M]" in (modules["one"].parent / "build.log").read_text()


def test_built_once_for_each_kernel_and_content(
    kernel: Kernel, sources: Path, store: Store, soon: Deadline
) -> None:
    """The same sources come from the cache; changed ones, or another kernel, are built.

    A patch that changes nothing that modules see has the modules of the clean kernel.
    """
    first = obtain_modules(kernel, sources, store=store, deadline=soon)
    (sources / "leftover.o").touch()
    assert obtain_modules(kernel, sources, store=store, deadline=soon) == first
    patched = replace(kernel, digest="other")
    assert obtain_modules(patched, sources, store=store, deadline=soon) == first
    other = replace(kernel, module_digest="other")
    assert obtain_modules(other, sources, store=store, deadline=soon)["one"] != first["one"]
    (sources / "one.c").write_text("changed\n")
    changed = obtain_modules(kernel, sources, store=store, deadline=soon)
    assert changed["one"].read_text() == "changed\n"
    assert first["one"].read_text() == "one\n"


def test_a_module_that_does_not_compile(
    kernel: Kernel, sources: Path, store: Store, soon: Deadline
) -> None:
    """The first error with the file as the user knows it, and the log."""
    (sources / "two.c").write_text("\n\nint ERROR;\n")
    with pytest.raises(KernelBuildFailed, match=r"modules against 6\.1\.0-fake") as caught:
        obtain_modules(kernel, sources, store=store, deadline=soon)
    assert caught.value.details == ("two.c:3:1: error: expected ';' before 'ERROR'",)
    assert caught.value.artefacts is not None
    assert "two.c" in caught.value.artefacts.read_text()
    assert store.entries("module") == []


def test_a_folder_without_modules(
    kernel: Kernel, tmp_path: Path, store: Store, soon: Deadline
) -> None:
    """A folder that Kbuild would not understand is named, with what it needs."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no module sources") as caught:
        obtain_modules(kernel, tmp_path / "empty", store=store, deadline=soon)
    assert caught.value.hint is not None
    assert "obj-m" in caught.value.hint


def test_modules_are_pruned_with_their_kernel(
    kernel: Kernel, sources: Path, store: Store, soon: Deadline
) -> None:
    """Pruning a kernel takes the modules that were built against it."""
    obtain_modules(kernel, sources, store=store, deadline=soon)
    for kind in ("kernel", "module", "source"):
        for entry in store.entries(kind):
            store.release(kind, entry.key)
    assert prune_kernels(store, keep=1).removed == ()
    assert len(prune_kernels(store).removed) == 3
    assert store.entries("module") == []
