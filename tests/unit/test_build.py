# SPDX-License-Identifier: GPL-2.0-only
"""Building, on a tree that mimics Kbuild in milliseconds and fails on request."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from harness.deadline import wait_until
from harness.errors import KernelBuildFailed, KlpError, MissingTool, NoSpace, UsageError
from harness.vm.host.cache import Store
from harness.vm.kernel import build
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.config import load_fragments, merge
from harness.vm.kernel.inventory import list_kernels, prune_kernels
from harness.vm.kernel.make_log import build_failure, compiles, first_errors
from harness.vm.kernel.toolchain import build_environment, find_toolchain
from tests.unit.fake_tree import vmlinux_of
from tests.unit.finished_kernels import host_programs, write_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.deadline import Deadline
    from harness.vm.kernel.kernel import Kernel

    class Recorder(Protocol):
        """The fixture's Progress."""

        counts: list[tuple[int, int, str]]

        def stage(self, text: str) -> None: ...
        def count(self, done: int, total: int | None, what: str) -> None: ...

    Obtain = Callable[..., Kernel]
    Fork = Callable[[Callable[[], object]], int]


@pytest.fixture
def obtain(
    store: Store, fake_tree: Path, guest_fragment: Path, soon: Deadline, recorder: Recorder
) -> Obtain:
    """Obtain the fake kernel, with more fragments when given."""

    def call(*fragments: Path) -> Kernel:
        request = KernelRequest(
            spec=str(fake_tree), fragments=(str(guest_fragment), *map(str, fragments))
        )
        return obtain_kernel(request, store=store, deadline=soon, progress=recorder)

    return call


def fragment(folder: Path, text: str) -> Path:
    path = folder / "extra.config"
    path.write_text(text)
    return path


def test_a_kernel_and_what_is_known_of_it(obtain: Obtain, fake_tree: Path) -> None:
    """Version, origin, configuration, and the files that guests and modules need."""
    kernel = obtain()
    assert kernel.version == "6.1.0-fake"
    assert kernel.describe() == f"6.1.0-fake (the tree {fake_tree}, with guest)"
    assert kernel.image.is_file()
    assert vmlinux_of(kernel).is_file()
    assert (kernel.build_dir / "Makefile").is_file()
    assert kernel.config.get("LIVEPATCH") == "y"
    assert kernel.compiler.startswith("gcc")


def test_the_second_time_it_comes_from_the_cache(obtain: Obtain, recorder: Recorder) -> None:
    """The same request gives the same files and compiles nothing."""
    first = obtain()
    recorder.counts.clear()
    again = obtain()
    assert again == replace(first, config=again.config)
    assert recorder.counts == []


def test_progress_counts_objects_up_to_the_total(obtain: Obtain, recorder: Recorder) -> None:
    """Each object counts once; the total is never below what is done."""
    obtain()
    counts = recorder.counts
    assert [done for done, _, _ in counts] == [1, 2, 3]
    assert all(done <= total for done, total, _ in counts)


def test_the_next_total_is_what_the_last_build_had(
    obtain: Obtain, fake_tree: Path, recorder: Recorder
) -> None:
    """After one build of these sources the estimate is exact."""
    obtain()
    (fake_tree / "kernel/livepatch/core.c").write_text("/* changed */\n")
    recorder.counts.clear()
    obtain()
    assert recorder.counts[-1][:2] == (3, 3)


def test_changed_sources_and_options_are_other_kernels(
    obtain: Obtain, fake_tree: Path, tmp_path: Path
) -> None:
    """One changed line, or one more option, and the build is another one."""
    digests = {obtain().digest}
    digests.add(obtain(fragment(tmp_path, "CONFIG_FAKE_FEATURE=y\n")).digest)
    (fake_tree / "kernel/livepatch/core.c").write_text("/* changed */\n")
    changed = obtain()
    digests.add(changed.digest)
    assert len(digests) == 3
    assert vmlinux_of(changed).read_text() == "/* changed */\n"


def test_a_flavour_is_named(obtain: Obtain, fake_tree: Path, tmp_path: Path) -> None:
    """Two kernels of the same sources are told apart by more than their digests."""
    assert obtain().source == f"the tree {fake_tree}, with guest"
    flavoured = obtain(fragment(tmp_path, "CONFIG_FAKE_FEATURE=y\n"))
    assert flavoured.source == f"the tree {fake_tree}, with guest, extra"


def test_another_compiler_is_another_kernel() -> None:
    """The key has compiler and linker in it, and not ccache."""
    requests = merge(load_fragments(("base",)))
    chain = find_toolchain()
    key = build.kernel_key("source", requests, chain)
    assert build.kernel_key("source", requests, replace(chain, compiler="gcc 99")) != key
    assert build.kernel_key("source", requests, replace(chain, linker="ld 99")) != key
    assert build.kernel_key("source", requests, replace(chain, cc="gcc")) == key


def test_a_compiler_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has its version in memory, and looks again when the program is another file."""
    gcc, runs = tmp_path / "gcc", tmp_path / "runs"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def install(version: str) -> None:
        gcc.write_text(f"#!/bin/sh\necho run >>{runs}\necho 'gcc (Test) {version}'\n")
        gcc.chmod(0o755)

    install("1")
    assert [find_toolchain().compiler for _ in range(3)] == ["gcc (Test) 1"] * 3
    assert runs.read_text() == "run\n"
    install("22")
    assert find_toolchain().compiler == "gcc (Test) 22"


def test_the_users_tree_is_not_written_to(obtain: Obtain, fake_tree: Path) -> None:
    """Not one file or time in it changes."""

    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in fake_tree.rglob("*")}

    before = state()
    obtain()
    assert state() == before


def test_a_tree_that_was_built_in_is_cleaned_in_the_copy(obtain: Obtain, fake_tree: Path) -> None:
    """Kbuild refuses O= builds of such a tree; the harness builds it from a clean copy."""
    (fake_tree / ".config").write_text("CONFIG_OLD=y\n")
    (fake_tree / "include/config").mkdir(parents=True)
    (fake_tree / "include/config/auto.conf").write_text("CONFIG_OLD=y\n")
    kernel = obtain()
    assert kernel.config.get("OLD") is None
    assert not (kernel.build_dir.parent / "include/config").exists()
    assert (fake_tree / ".config").read_text() == "CONFIG_OLD=y\n"


def test_a_build_that_fails(obtain: Obtain, fake_tree: Path, store: Store) -> None:
    """The first errors are in the message, the whole log stays, no entry is published."""
    (fake_tree / "broken").write_text(
        "kernel/fork.c:10:2: error: unknown type name 'foo'\nmake[2]: *** [kernel/fork.o] Error 1\n"
    )
    with pytest.raises(KernelBuildFailed) as caught:
        obtain()
    assert caught.value.details == ("kernel/fork.c:10:2: error: unknown type name 'foo'",)
    assert caught.value.artefacts is not None
    assert "unknown type name" in caught.value.artefacts.read_text()
    assert store.entries("kernel") == []
    (fake_tree / "broken").unlink()
    kernel = obtain()
    assert (kernel.build_dir.parent.parent / "build.log").is_file()


def test_an_option_that_the_kernel_lacks(obtain: Obtain, tmp_path: Path) -> None:
    """A request that Kconfig dropped stops the build before it begins."""
    with pytest.raises(UsageError) as caught:
        obtain(fragment(tmp_path, "CONFIG_FAKE_UNMET=y\nCONFIG_TYPO=y\n"))
    text = "\n".join(caught.value.details)
    assert "extra.config, line 1: CONFIG_FAKE_UNMET wanted y, got n: its dependencies" in text
    assert "extra.config, line 2: CONFIG_TYPO wanted y, got n: this kernel knows no such" in text


def test_a_configuration_that_no_guest_boots_on(obtain: Obtain, tmp_path: Path) -> None:
    """A user's fragment may override ours, and is told what that breaks."""
    with pytest.raises(UsageError, match="cannot serve as a guest's kernel") as caught:
        obtain(fragment(tmp_path, "# CONFIG_VIRTIO_NET is not set\n"))
    assert caught.value.details == ("CONFIG_VIRTIO_NET: the network card that SSH comes over",)


def test_the_environment_of_a_build(obtain: Obtain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the caller's environment gets in that would build something else."""
    monkeypatch.setenv("ARCH", "arm64")
    monkeypatch.setenv("KBUILD_OUTPUT", "/nowhere")
    monkeypatch.setenv("MAKEFLAGS", "-n")
    monkeypatch.setenv("CROSS_COMPILE", "x-")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    kernel = obtain()
    seen = (kernel.build_dir / "environment").read_text()
    assert "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970" in seen
    assert "LC_ALL=C\n" in seen
    assert "KBUILD_OUTPUT" not in seen
    assert "CROSS_COMPILE" not in seen
    assert kernel.image.read_text().split()[-1] == "x86_64"
    assert build_environment()["PATH"] == os.environ["PATH"]


def test_two_processes_build_once(
    obtain: Obtain, fake_tree: Path, store: Store, in_child: Fork, soon: Deadline
) -> None:
    """The second one waits, says for what, and takes what the first one built."""
    (fake_tree / "slow").touch()
    child = in_child(obtain)

    def partial() -> list[Path]:
        return list(store.root.glob("kernel/.partial-*/linux/slow"))

    assert wait_until(lambda: bool(partial()), soon)
    told: list[str] = []

    class Freeing:
        def stage(self, text: str) -> None:
            told.append(text)
            if text.startswith("waiting"):
                for path in partial():
                    path.unlink()

        def count(self, done: int, total: int | None, what: str) -> None:
            told.append("counted")

    request = KernelRequest(
        spec=str(fake_tree), fragments=(str(fake_tree.with_name("guest.config")),)
    )
    kernel = obtain_kernel(request, store=store, deadline=soon, progress=Freeing())
    assert os.waitpid(child, 0)[1] == 0
    assert told == [f"waiting for another build of the tree {fake_tree}, with guest"]
    assert kernel.image.is_file()
    assert len(store.entries("kernel")) == 1


def test_kill_9_during_a_build(
    obtain: Obtain, fake_tree: Path, store: Store, in_child: Fork, soon: Deadline
) -> None:
    """The cache is sound afterwards, make is gone, and the next run builds."""
    (fake_tree / "slow").touch()
    child = in_child(obtain)
    assert wait_until(lambda: any(store.root.glob("kernel/.partial-*/linux/slow")), soon)
    assert wait_until(lambda: bool(_makes(store)), soon)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert wait_until(lambda: not _makes(store), soon)
    assert store.entries("kernel") == []
    (fake_tree / "slow").unlink()
    assert obtain().image.is_file()
    assert not list(store.root.glob("kernel/.partial-*"))


def _makes(store: Store) -> list[str]:
    """Return the makes that compile inside the store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if (
            command.split(" ")[0].endswith("make")
            and f"{store.root}/" in command
            and ("bzImage" in command or " vmlinux " in command)
        ):
            found.append(command)
    return found


def test_no_room_is_reported_before_the_build(
    obtain: Obtain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot hold a kernel is not filled up first."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(NoSpace, match="a kernel needs 3 GiB"):
        obtain()


def test_list_and_prune(obtain: Obtain, store: Store, fake_tree: Path, soon: Deadline) -> None:
    """Pruning takes kernels that nobody uses, then the sources that no kernel needs."""
    obtain()
    (fake_tree / "kernel/livepatch/core.c").write_text("/* changed */\n")
    kept = obtain()
    assert [kernel.version for kernel in list_kernels(store)] == ["6.1.0-fake"] * 2
    for entry in store.entries("kernel") + store.entries("source"):
        store.release(entry.kind, entry.key)
    os.utime(store.root / f"kernel/{kept.digest}.used")
    pruned = prune_kernels(store, keep=1)
    assert len(pruned.removed) == 2
    assert [kernel.digest for kernel in list_kernels(store)] == [kept.digest]
    assert len(store.entries("source")) == 1
    assert prune_kernels(store, keep=0, unused_for_s=3600).removed == ()
    assert len(prune_kernels(store).removed) == 2
    assert list_kernels(store) == ()


def test_what_is_quickly_made_again_is_removed_by_its_age(store: Store, soon: Deadline) -> None:
    """Files of a cluster and file systems of guests hang on no kernel, and grew without end."""
    for kind in ("artefact", "initramfs"):
        for key in ("old", "young"):
            store.obtain(kind, key, lambda folder: (folder / "content").touch(), deadline=soon)
            store.release(kind, key)
        (store.root / kind / "old.used").write_text("")  # of an earlier boot
        os.utime(store.root / kind / "old.used", (0, 0))
    assert prune_kernels(store, unused_for_s=3600).removed == ("artefact old", "initramfs old")
    assert store.kinds() == ["artefact", "initramfs"]
    assert prune_kernels(store).removed == ("artefact young", "initramfs young")
    assert store.kinds() == []


def test_a_kernel_in_use_is_not_pruned(obtain: Obtain, store: Store, in_child: Fork) -> None:
    """What a running process obtained stays, and prune says so."""
    kernel = obtain()

    def other() -> None:
        pruned = prune_kernels(Store(store.root))
        assert pruned.removed == ()
        assert [label[:6] for label in pruned.in_use] == ["kernel"]

    assert os.waitpid(in_child(other), 0)[1] == 0
    assert kernel.image.is_file()


def test_a_finished_build_is_used_as_it_is(
    obtain: Obtain, store: Store, soon: Deadline, recorder: Recorder
) -> None:
    """build:DIR takes a kernel that somebody else built."""
    built = obtain()
    image = bytearray(0x240)
    image[0x202:0x206], image[0x236] = b"HdrS", 1
    built.image.write_bytes(image)
    with (built.build_dir / ".config").open("a") as config:
        config.write("CONFIG_STACKTRACE=y\nCONFIG_HAVE_RELIABLE_STACKTRACE=y\n")
    write_files(built.build_dir, host_programs())
    request = KernelRequest(spec=f"build:{built.build_dir}")
    kernel = obtain_kernel(request, store=store, deadline=soon, progress=recorder)
    assert kernel.version == "6.1.0-fake"
    assert kernel.image == built.image
    with pytest.raises(UsageError, match="a finished build: it cannot be configured with debug"):
        obtain_kernel(
            replace(request, fragments=("base", "livepatch", "debug")),
            store=store,
            deadline=soon,
            progress=recorder,
        )
    (built.build_dir / "Module.symvers").unlink()
    with pytest.raises(UsageError, match=r"no finished build: it lacks Module\.symvers"):
        obtain_kernel(request, store=store, deadline=soon, progress=recorder)


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("  CC      kernel/fork.o", True),
        ("  CC [M]  drivers/x.o", True),
        ("  AS      arch/x86/entry/entry_64.o", True),
        ("  HOSTCC  scripts/basic/fixdep", True),
        ("  LD      vmlinux.o", False),
        ("  AR      kernel/built-in.a", False),
        ("CC      kernel/fork.o", False),
    ],
)
def test_what_counts_as_an_object(line: str, counts: bool) -> None:
    """One line of the log, one object."""
    assert compiles(line) is counts


@pytest.mark.parametrize(
    ("lines", "kind", "said"),
    [
        (["/bin/sh: 1: flex: not found", "make: *** Error 127"], MissingTool, "program flex"),
        (["bash: bison: command not found"], MissingTool, "program bison"),
        (
            ["elf.h:9:10: fatal error: gelf.h: No such file or directory"],
            MissingTool,
            "header gelf.h",
        ),
        (["gcc: fatal error: Killed signal terminated program cc1"], KlpError, "out of memory"),
        (["fork.c:1:1: error: boom"], KernelBuildFailed, "does not build"),
    ],
)
def test_whose_fault_a_failed_build_is(
    lines: list[str], kind: type[KlpError], said: str, tmp_path: Path
) -> None:
    """The host's lack of a tool or of memory is no verdict on the sources."""
    error = build_failure("6.1", lines, tmp_path / "log")
    assert isinstance(error, kind)
    assert said in str(error)
    assert isinstance(error, KernelBuildFailed) == (kind is KernelBuildFailed)


def test_causes_come_before_what_followed() -> None:
    """make's own lines are left out as long as there is a cause to show."""
    lines = ["  CC a.o", "a.c:1: error: x", "make[1]: *** [a.o] Error 1", "make: *** Error 2"]
    assert first_errors(lines) == ("a.c:1: error: x",)
    assert first_errors(lines[2:]) == tuple(lines[2:])
    assert first_errors(["odd end"]) == ("odd end",)
