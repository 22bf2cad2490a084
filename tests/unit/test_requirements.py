# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that cannot be tested: each is refused before it boots, by the option that it lacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness.errors import ExitCode, KernelUnfit, UsageError
from harness.vm.kernel.boot_modules import by_name, in_order
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.prebuilt import kernel_from_build, require_image
from harness.vm.kernel.requirements import (
    BOOT_MODULES,
    GUEST_NEEDS,
    RELIABLE_STACK,
    require_for_guest,
    require_reliable_stack,
)
from tests.unit.finished_kernels import host_programs, write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD = {f"CONFIG_{name}": "y" for name in (*GUEST_NEEDS, *RELIABLE_STACK)}


def image(*, magic: bytes = b"HdrS", flags: int = 1) -> bytes:
    head = bytearray(0x240)
    head[0x202:0x206] = magic
    head[0x236] = flags
    return bytes(head)


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder that looks like a finished build, with options changed (None: off)."""

    def make(**changes: str | None) -> Path:
        config = {**GOOD, **{f"CONFIG_{name}": value for name, value in changes.items()}}
        text = "".join(f"{name}={value}\n" for name, value in config.items() if value)
        files: dict[str, bytes | str] = {
            **host_programs(),
            "vmlinux": b"\x7fELF",
            "arch/x86/boot/bzImage": image(),
            ".config": text.encode(),
            "Module.symvers": b"",
            "include/config/kernel.release": b"6.6.6\n",
            "include/config/auto.conf": text.encode(),
        }
        return write_files(tmp_path, files)

    return make


def refusal(folder: Path) -> KernelUnfit:
    with pytest.raises(KernelUnfit) as caught:
        kernel_from_build(folder, f"build:{folder}")
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value


@pytest.mark.parametrize("name", sorted(GUEST_NEEDS))
def test_a_guest_needs_each_of_these(name: str) -> None:
    """Without any one of them the kernel is refused by its name, and by no other's."""
    require_for_guest(KernelConfig(GOOD), "x")
    for bad in ({**GOOD, f"CONFIG_{name}": "m"}, {k: GOOD[k] for k in GOOD if k[7:] != name}):
        with pytest.raises(KernelUnfit, match=f"built without CONFIG_{name}\n") as caught:
            require_for_guest(KernelConfig(bad), "x")
        assert [line.partition(":")[0] for line in caught.value.details] == [f"CONFIG_{name}"]


def test_drivers_may_be_modules_where_those_are_available() -> None:
    """virtio =m is no reason to refuse a build; anything else =m is."""
    modular = {**GOOD, "CONFIG_VIRTIO_PCI": "m", "CONFIG_VIRTIO_NET": "m"}
    require_for_guest(KernelConfig(modular), "x", modules=True)
    with pytest.raises(KernelUnfit, match="CONFIG_UNIX"):
        require_for_guest(KernelConfig({**modular, "CONFIG_UNIX": "m"}), "x", modules=True)


def test_many_options_make_one_sentence() -> None:
    """Three are named, the rest counted; the details have them all."""
    with pytest.raises(KernelUnfit, match=f"and {len(GUEST_NEEDS) - 3} more") as caught:
        require_for_guest(KernelConfig({}), "x")
    assert len(caught.value.details) == len(GUEST_NEEDS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"LIVEPATCH": None}, "built without CONFIG_LIVEPATCH"),
        ({"BLK_DEV_INITRD": None}, "built without CONFIG_BLK_DEV_INITRD"),
        ({"VIRTIO_NET": None}, "built without CONFIG_VIRTIO_NET"),
        ({"HAVE_RELIABLE_STACKTRACE": None}, "no reliable unwinder: .*CONFIG_HAVE_RELIABLE_STACK"),
        ({"STACKTRACE": None}, "no reliable unwinder: .*CONFIG_STACKTRACE"),
        ({"MODULE_SIG_FORCE": "y"}, "CONFIG_MODULE_SIG_FORCE=y it loads no module"),
        ({"LOCK_DOWN_KERNEL_FORCE_INTEGRITY": "y"}, "FORCE_INTEGRITY=y lockdown refuses"),
        ({"ARM64": "y"}, r"is for arm64 \(CONFIG_ARM64=y\), and the guests are x86_64"),
        ({"VIRTIO_NET": "m"}, r"CONFIG_VIRTIO_NET=m and no file virtio_net\.ko"),
    ],
)
def test_a_build_that_cannot_be_tested(
    finished: Callable[..., Path], changes: dict[str, str | None], said: str
) -> None:
    """One sentence names the option; the good build next to it is taken."""
    kernel_from_build(finished(), "build:x")
    error = refusal(finished(**changes))
    assert re.search(said, error.message)
    assert "\n" not in error.message
    assert error.hint


def test_a_users_build_starts_as_its_bzimage(finished: Callable[..., Path]) -> None:
    """Its vmlinux, which can be entered as well, need not be of the same build."""
    made = kernel_from_build(finished(PVH="y"), "build:x")
    assert made.image.name == "bzImage"


def test_another_machine_is_reported_before_what_its_build_lacks(tmp_path: Path) -> None:
    """An arm64 build has no bzImage; that is not what is wrong with it."""
    (tmp_path / ".config").write_text("CONFIG_ARM64=y\n")
    assert "CONFIG_ARM64" in refusal(tmp_path).message


def test_a_configuration_that_was_changed_after_the_build(finished: Callable[..., Path]) -> None:
    """What counts is how the image was built."""
    folder = finished()
    auto = folder / "include/config/auto.conf"
    auto.write_text(auto.read_text().replace("CONFIG_LIVEPATCH=y\n", ""))
    with pytest.raises(UsageError, match="changed after the build: CONFIG_LIVEPATCH is y there"):
        kernel_from_build(folder, "build:x")


def test_an_image_is_looked_into(tmp_path: Path) -> None:
    """A file that is no bzImage, or a 32-bit one, would only be waited for."""
    path = tmp_path / "bzImage"
    path.write_bytes(image())
    require_image(path)
    path.write_bytes(image(magic=b"ARM\x64"))
    with pytest.raises(UsageError, match="no bzImage of an x86 kernel"):
        require_image(path)
    path.write_bytes(image(flags=0))
    with pytest.raises(KernelUnfit, match="32-bit kernel"):
        require_image(path)


def test_modules_come_after_those_they_depend_on() -> None:
    """Each once, dashes as the kernel reads them; a cycle ends."""
    depends = {
        "virtio_pci": ("virtio", "virtio_ring"),
        "virtio_ring": ("virtio",),
        "virtio_net": ("net-failover", "virtio"),
        "net_failover": ("failover",),
        "a": ("b",),
        "b": ("a",),
    }
    order = in_order(("virtio_pci", "virtio_net"), lambda name: depends.get(name, ()))
    assert order == (
        *("virtio", "virtio_ring", "virtio_pci"),
        *("failover", "net_failover", "virtio_net"),
    )
    assert in_order(("a",), lambda name: depends[name]) == ("b", "a")


def test_module_files_by_name(tmp_path: Path) -> None:
    """The kernel knows virtio-rng.ko as virtio_rng, and so does the list of drivers."""
    assert set(by_name([tmp_path / "virtio-rng.ko", tmp_path / "pvpanic-pci.ko"])) <= set(
        BOOT_MODULES.values()
    )


def test_reliable_stacks_are_asked_for_apart() -> None:
    """A kernel that somebody configures without, on purpose, still boots as a guest."""
    without = {k: v for k, v in GOOD.items() if k != "CONFIG_HAVE_RELIABLE_STACKTRACE"}
    require_for_guest(KernelConfig(without), "x")
    with pytest.raises(KernelUnfit, match="no reliable unwinder") as caught:
        require_reliable_stack(KernelConfig(without), "x")
    assert "CONFIG_UNWINDER_ORC" in str(caught.value)
