# SPDX-License-Identifier: GPL-2.0-only
"""Guests with a root file system on a disk: each has its own, and a livepatch works there.

They need a kernel that has a disk, such as with --kernel-config rootfs or a distribution's.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.livepatch.patch import Livepatch
from harness.pytest_plugin.options import guest_settings
from harness.vm.guest import runs
from harness.vm.guest.root_image import obtain_root
from harness.vm.guest.root_spec import parse_root
from harness.vm.guest.session import Fresh, Session
from harness.vm.host.process import find_program, run
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.root_disk import RootDisk
    from harness.vm.kernel.kernel import Kernel

PATCH = "klp_test_cmdline_a"


@pytest.fixture
def userland(tmp_path: Path) -> Path:
    """A folder with busybox for all of its commands, and a file to know it by."""
    folder = tmp_path / "userland"
    for name in ("bin", "etc", "lib/modules", "root"):
        (folder / name).mkdir(parents=True)
    busybox = folder / "bin/busybox"
    shutil.copyfile(find_program("busybox"), busybox)
    busybox.chmod(0o755)
    for name in run([busybox, "--list"], deadline=Deadline.after(10)).stdout.split():
        if name != "busybox":
            (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/of-the-root").write_text("yes\n")
    return folder


@pytest.fixture
def disk(userland: Path) -> RootDisk:
    """The same as an ext4 file system."""
    return _disk_of(userland)


def _disk_of(userland: Path) -> RootDisk:
    return obtain_root(
        parse_root(str(userland), init=False),
        init=False,
        store=runs.store(),
        deadline=Deadline.after(120),
        progress=LineProgress(lambda _: None),
    )


@pytest.mark.needs("CONFIG_VIRTIO_BLK")
@pytest.mark.needs("CONFIG_EXT4_FS")
@pytest.mark.parametrize("fresh", [Fresh.SNAPSHOT, Fresh.BOOT])
@pytest.mark.slow(20)
def test_each_guest_has_its_own_disk(
    pytestconfig: pytest.Config,
    kernel: Kernel,
    sample_modules: Mapping[str, Path],
    disk: RootDisk,
    tmp_path: Path,
    fresh: Fresh,
) -> None:
    """What one guest writes no other sees, nor is it in the image; a livepatch works there."""
    before = _digest(disk.image)
    large = tmp_path / "large"
    large.write_bytes(b"0123456789abcdef" * 200_000)
    settings = replace(guest_settings(pytestconfig), fresh=fresh)
    with Session(
        tmp_path / "run",
        settings,
        runs.store(),
        extra_files={"/srv/mine": large},
        root=disk,
    ) as session:
        with session.guest(kernel) as machine:
            assert machine.read("/etc/of-the-root") == "yes\n"
            assert machine.run(["cat", "/etc/of-the-root"]).stdout == "yes\n"
            assert machine.run(["wc", "-c", "/srv/mine"]).stdout.split()[0] == "3200000"
            assert machine.run(["sh", "-c", 'echo "$HOME"; pwd']).stdout == "/root\n/\n"
            machine.write("/etc/of-the-root", "changed\n")
            assert machine.run(["sync"]).ok
            sent = machine.upload(large)
            assert machine.run(["cmp", sent, "/srv/mine"]).ok
            assert "/dev/vda / ext4" in machine.read("/proc/mounts")
            patch = Livepatch(machine, modules=sample_modules).load(PATCH, wait=True)
            assert "live patched" in machine.run(["cat", "/proc/cmdline"]).stdout
            patch.disable()
            patch.unload()
            machine.check_splats()
        with session.guest(kernel) as machine:
            assert machine.read("/etc/of-the-root") == "yes\n"
            assert machine.read("/proc/mounts").count("/dev/vda") == 1
        with session.guest(kernel, ssh=True) as machine:
            assert machine.pipe(["cat", "/etc/of-the-root"]).recv(100) == b"yes\n"
    assert _digest(disk.image) == before


@pytest.mark.needs("CONFIG_VIRTIO_BLK")
@pytest.mark.needs("CONFIG_EXT4_FS")
@pytest.mark.slow(10)
def test_a_shell_that_does_not_run(
    pytestconfig: pytest.Config, kernel: Kernel, userland: Path, tmp_path: Path
) -> None:
    """The guest says so as soon as it has tried, and that is no verdict on the kernel."""
    (userland / "bin/sh").unlink()
    (userland / "bin/sh").write_text("no program\n")
    settings = replace(guest_settings(pytestconfig), fresh=Fresh.BOOT)
    with (
        Session(tmp_path / "run", settings, runs.store(), root=_disk_of(userland)) as session,
        pytest.raises(UsageError, match="has a shell, /bin/sh, that does not run"),
        session.guest(kernel),
    ):
        pass


def _digest(image: Path) -> str:
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
