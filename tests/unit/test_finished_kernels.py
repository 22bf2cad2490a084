# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are installed, or in files of packages: their parts, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import ExitCode, UsageError
from harness.vm.elf.vmlinux import Vmlinux
from harness.vm.host.process import run
from harness.vm.kernel import installed, packaged
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.layout import find_layout, image_release, within
from harness.vm.kernel.resolved import ResolvedKernel, open_kernel
from harness.vm.kernel.symbols import kernel_symbols, not_judged
from tests.unit.finished_kernels import (
    CONFIG,
    debian_root,
    host_programs,
    image_of,
    system_map,
    write_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

RELEASE = "6.6.6-test"


@pytest.fixture
def obtain(store: Store, soon: Deadline, recorder: Progress) -> Callable[[str | Path], Kernel]:
    """Obtain the kernel of a spec."""

    def call(spec: str | Path) -> Kernel:
        request = KernelRequest(spec=str(spec))
        return obtain_kernel(request, store=store, deadline=soon, progress=recorder)

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return debian_root(tmp_path / "system", RELEASE)


def image(root: Path) -> Path:
    return root / f"boot/vmlinuz-{RELEASE}"


def parts(kernel: Kernel) -> tuple[object, ...]:
    return kernel.digest, kernel.image, kernel.build_dir, kernel.symbols, kernel.config.digest()


def test_an_installed_kernel(root: Path, obtain: Callable[[str | Path], Kernel]) -> None:
    """It is copied, headers and all, and works when the system's own files are gone."""
    kernel = obtain(image(root))
    assert kernel.version == RELEASE
    assert kernel.source == f"the installed kernel {image(root)}"
    shutil.rmtree(root)
    said = run(["make", "-C", kernel.build_dir], deadline=Deadline.after(30)).stdout
    assert "usr/src/linux-headers-common/Makefile" in said
    assert str(root) not in said
    assert (kernel.build_dir / "scripts/mod/modpost").is_file()
    assert kernel.image.read_bytes() == image_of(RELEASE)


def test_another_process_opens_it(
    root: Path, obtain: Callable[[str | Path], Kernel], store: Store
) -> None:
    """By its digest, from the cache; the system may have changed since."""
    kernel = obtain(image(root))
    resolved = ResolvedKernel.of(kernel, store)
    shutil.rmtree(root)
    assert parts(open_kernel(resolved, store)) == parts(kernel)


def test_an_update_makes_another_kernel(root: Path, obtain: Callable[[str | Path], Kernel]) -> None:
    """The same release with other exported symbols is not the one in the cache."""
    first = obtain(image(root))
    assert obtain(image(root)).digest == first.digest
    symvers = root / f"usr/src/linux-headers-{RELEASE}/Module.symvers"
    symvers.write_text("0x2\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n")
    assert obtain(image(root)).digest != first.digest


def test_headers_in_a_tree_of_the_user_stay_there(
    root: Path, tmp_path: Path, obtain: Callable[[str | Path], Kernel], store: Store
) -> None:
    """After `make modules_install` the link leads to the build, which is not copied."""
    headers = root / f"usr/src/linux-headers-{RELEASE}"
    tree = root / "home/me/linux"
    tree.parent.mkdir(parents=True)
    headers.rename(tree)
    link = root / f"lib/modules/{RELEASE}/build"
    link.unlink()
    link.symlink_to("/home/me/linux")
    programs = tree / "scripts"
    programs.unlink()
    write_files(tree, host_programs())
    kernel = obtain(image(root))
    assert kernel.build_dir == tree
    assert parts(open_kernel(ResolvedKernel.of(kernel, store), store)) == parts(kernel)


def test_fedoras_places(tmp_path: Path, obtain: Callable[[str | Path], Kernel]) -> None:
    """Everything is in lib/modules/X, and the headers in usr/src/kernels/X."""
    modules, headers = f"usr/lib/modules/{RELEASE}", f"usr/src/kernels/{RELEASE}"
    root = write_files(
        tmp_path / "system",
        {
            f"{modules}/vmlinuz": image_of(RELEASE),
            f"{modules}/config": CONFIG,
            f"{modules}/System.map": system_map("cmdline_proc_show"),
            f"{headers}/Makefile": "all:\n",
            f"{headers}/Module.symvers": "",
            **host_programs(f"{headers}/"),
        },
    )
    (root / "lib").symlink_to("usr/lib")
    kernel = obtain(root / modules / "vmlinuz")
    assert kernel.version == RELEASE
    symbols = kernel_symbols(kernel)
    assert symbols is not None
    assert symbols.named("cmdline_proc_show")


def test_suses_places(tmp_path: Path) -> None:
    """The headers are in an output folder, whose Makefile leads to the sources."""
    release = "6.4.0-1-default"
    headers = "usr/src/linux-6.4.0-1-obj/x86_64/default"
    root = write_files(
        tmp_path,
        {
            f"usr/lib/modules/{release}/vmlinuz": image_of(release),
            f"usr/lib/modules/{release}/config": CONFIG,
            f"{headers}/Makefile": "include ../../../linux-6.4.0-1/Makefile\n",
            f"{headers}/Module.symvers": "",
            f"{headers}/include/generated/utsrelease.h": f'#define UTS_RELEASE "{release}"\n',
        },
    )
    assert find_layout(root, "it").headers == root / headers


def test_ubuntus_places(tmp_path: Path, obtain: Callable[[str | Path], Kernel]) -> None:
    """Drivers are .ko.zst of a package of their own, and both packages of headers are linked."""
    release = "6.8.0-31-generic"
    modules, headers = f"lib/modules/{release}", f"usr/src/linux-headers-{release}"
    config = CONFIG + "CONFIG_HW_RANDOM_VIRTIO=m\nCONFIG_MODULE_COMPRESS_ZSTD=y\n"
    root = write_files(
        tmp_path / "system",
        {
            f"boot/vmlinuz-{release}": image_of(release),
            f"boot/config-{release}": config,
            f"boot/System.map-{release}": system_map("cmdline_proc_show"),
            f"{modules}/kernel/drivers/net/other.ko.zst": "x",
            f"{headers}/Makefile": "include ../linux-headers-6.8.0-31/Makefile\n",
            f"{headers}/Module.symvers": "",
            "usr/src/linux-headers-6.8.0-31/Makefile": "all:\n\t@echo it is the common one\n",
            **host_programs("usr/src/linux-headers-6.8.0-31/"),
        },
    )
    (root / headers / "scripts").symlink_to("../linux-headers-6.8.0-31/scripts")
    (root / modules / "build").symlink_to(f"/{headers}")
    kernel = obtain(root / f"boot/vmlinuz-{release}")
    shutil.rmtree(root)
    said = run(["make", "-C", kernel.build_dir], deadline=Deadline.after(30)).stdout
    assert "it is the common one" in said
    # In a package that a guest does without, linux-modules-extra, on some releases.
    assert kernel.boot_modules == ()


def missing(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def other_headers(root: Path) -> None:
    path = root / f"usr/src/linux-headers-{RELEASE}/include/generated/utsrelease.h"
    path.write_text('#define UTS_RELEASE "6.6.5-test"\n')


def other_modules(root: Path) -> None:
    (root / f"lib/modules/{RELEASE}").rename(root / "lib/modules/6.6.5-test")


def other_image(root: Path) -> None:
    image(root).write_bytes(image_of("6.6.7-test"))


def without(option: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / f"boot/config-{RELEASE}"
        path.write_text(path.read_text().replace(f"CONFIG_{option}=y\n", ""))

    return change


def plus(line: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / f"boot/config-{RELEASE}"
        path.write_text(f"{path.read_text().replace(line.partition('=')[0] + '=y', '#')}{line}\n")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (missing(f"usr/src/linux-headers-{RELEASE}"), f"without the headers of {RELEASE}"),
        (missing(f"usr/src/linux-headers-{RELEASE}/Module.symvers"), "without the headers"),
        (other_headers, f"is the kernel {RELEASE}, and its headers are those of 6.6.5-test"),
        (other_modules, f"modules in lib/modules/{RELEASE} are missing; those of 6.6.5-test are"),
        (other_image, "is the kernel 6.6.7-test, and its modules in lib/modules/6.6.7-test are"),
        (missing(f"boot/config-{RELEASE}"), "has no configuration"),
        (without("LIVEPATCH"), "built without CONFIG_LIVEPATCH"),
        (without("STACKTRACE"), "no reliable unwinder"),
        (plus("CONFIG_VIRTIO_NET=m"), "CONFIG_VIRTIO_NET=m, and virtio_net.ko is not among its"),
        (plus("CONFIG_ARM64=y"), "is for arm64"),
    ],
)
def test_parts_that_are_missing_or_do_not_belong_together(
    change: Callable[[Path], None],
    said: str,
    root: Path,
    obtain: Callable[[str | Path], Kernel],
) -> None:
    """One sentence names the part, before anything is built; the good one beside it is taken."""
    obtain(image(root))
    change(root)
    with pytest.raises(UsageError, match=said) as caught:
        obtain(image(root))
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no image of an x86 kernel"),
        (b"MZ" + bytes(0x300), "no image of an x86 kernel"),
        (image_of(""), "does not say which release"),
        (image_of("../../etc"), "does not say which release"),
        (image_of("a/b"), "does not say which release"),
        (image_of("\x1b[31m"), "does not say which release"),
    ],
)
def test_what_is_no_image(content: bytes, said: str, tmp_path: Path) -> None:
    """Its release becomes part of paths: it is looked into."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        image_release(path)


def test_an_image_elsewhere(tmp_path: Path, obtain: Callable[[str | Path], Kernel]) -> None:
    """Beside a lone image there are no modules and headers to look for."""
    path = tmp_path / "vmlinuz-1"
    path.write_bytes(image_of("1"))
    with pytest.raises(UsageError, match="not in a folder boot or lib/modules/X"):
        obtain(path)


def test_links_stay_within_the_root(tmp_path: Path) -> None:
    """As for a process that called chroot(2): neither a full path nor dots lead out."""
    write_files(tmp_path, {"usr/lib/file": "x"})
    for name, target in {
        "lib": "usr/lib",
        "full": "/usr/lib/file",
        "dots": "../../../../usr/lib/file",
        "circle": "circle",
    }.items():
        (tmp_path / name).symlink_to(target)
    for path in ("lib/file", "full", "dots", "usr/../../lib/./file", "/lib/file"):
        assert within(tmp_path, path) == tmp_path / "usr/lib/file"
    assert within(tmp_path, "circle") is None


# Symbols.


def test_symbols_of_a_system_map(root: Path, obtain: Callable[[str | Path], Kernel]) -> None:
    """A function that is not in it is judged here; whether it can be traced is not, and is said."""
    (root / f"boot/System.map-{RELEASE}").write_text(system_map("twice", "twice", "once"))
    kernel = obtain(image(root))
    symbols = kernel_symbols(kernel)
    assert symbols is not None
    assert [len(symbols.named(name)) for name in ("twice", "once", "never")] == [2, 1, 0]
    assert not symbols.knows_call_sites
    assert "ftrace can redirect is judged by the kernel" in (not_judged(kernel) or "")


def test_debians_system_map_is_none(root: Path, obtain: Callable[[str | Path], Kernel]) -> None:
    """It is one line that names another package."""
    kernel = obtain(image(root))
    assert kernel_symbols(kernel) is None
    assert "comes without its symbols" in (not_judged(kernel) or "")


def test_symbols_of_the_running_kernel(
    root: Path,
    tmp_path: Path,
    obtain: Callable[[str | Path], Kernel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kallsyms has them without addresses, in its order; those of modules are left out."""
    kallsyms = tmp_path / "kallsyms"
    lines = system_map("first").splitlines()
    lines.append(f"{0:016x} t of_a_module\t[ext4]")
    kallsyms.write_text("".join(f"{0:016x}{line[16:]}\n" for line in lines))
    monkeypatch.setattr(installed, "_KALLSYMS", kallsyms)
    monkeypatch.setattr(installed, "_is_running", lambda layout: layout.release == RELEASE)
    symbols = kernel_symbols(obtain(image(root)))
    assert symbols is not None
    assert symbols.named("first")
    assert not symbols.named("of_a_module")


def test_a_vmlinux_of_another_build(
    root: Path, obtain: Callable[[str | Path], Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debug information of another release would name functions that are not there."""
    write_files(root, {f"usr/lib/debug/boot/vmlinux-{RELEASE}": "x"})
    vermagic = f"{RELEASE} SMP mod_unload "
    monkeypatch.setattr(packaged, "read_vmlinux", lambda _: Vmlinux({}, (), vermagic))
    kernel = obtain(image(root))
    assert kernel.vmlinux is not None
    assert kernel.vmlinux.read_text() == "x"
    assert not_judged(kernel) is None
    monkeypatch.setattr(packaged, "read_vmlinux", lambda _: Vmlinux({}, (), "6.6.5 SMP"))
    with pytest.raises(UsageError, match=f"is the kernel {RELEASE}, and its vmlinux is that of 6"):
        obtain(image(root))
