# SPDX-License-Identifier: GPL-2.0-only
"""A root file system for guests: what is refused on the host, and what QEMU is given."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from harness.deadline import Deadline
from harness.errors import DownloadFailed, KernelUnfit, UsageError
from harness.vm.guest.disk_image import find_file_system, followed
from harness.vm.guest.root_disk import Layers, RootDisk, disk_arguments, open_layers
from harness.vm.guest.root_image import needed_tools, obtain_root
from harness.vm.guest.root_init import initramfs_files, kernel_args, placed
from harness.vm.guest.root_spec import FolderRoot, ImageRoot, SuiteRoot, parse_root
from harness.vm.host.cache import Store
from harness.vm.host.process import find_program, run
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.requirements import require_for_root

MIB = 1 << 20
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ROOT = UUID("4f68bce3-e8cd-4db1-96e7-fbcafb984709")


class Silent:
    def stage(self, text: str) -> None: ...

    def count(self, done: int, total: int | None, what: str) -> None: ...


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip where a tool is missing; in CI that is a failure."""
    missing = [name for name in names if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
    return pytest.mark.skipif(
        bool(missing) and not os.environ.get("CI"), reason=f"there is no {', '.join(missing)}"
    )


def userland(folder: Path, *, init: str = "/lib/systemd/systemd") -> Path:
    """Make what looks like a merged-usr root, with a shell and an init."""
    for name in ("usr/bin", "usr/sbin", "usr/lib/systemd", "etc", "run"):
        (folder / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib"):
        (folder / name).symlink_to(f"usr/{name}")
    (folder / "usr/bin/dash").write_text("")
    (folder / "usr/bin/sh").symlink_to("dash")
    (folder / "usr/lib/systemd/systemd").write_text("")
    (folder / "usr/sbin/init").symlink_to(init)
    return folder


def ext4(folder: Path, image: Path, mib: int = 8) -> Path:
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    run(
        [find_program("mkfs.ext4"), "-q", "-F", "-d", folder, image],
        deadline=Deadline.after(60),
    )
    return image


def disk_of(entries: list[tuple[UUID, bytes]], image: Path) -> Path:
    """Write a disk with a GPT and these partitions, each at a MiB of its own."""
    table, parts, at = b"", [], MIB
    for kind, content in entries:
        last = (at + len(content)) // 512 - 1
        table += kind.bytes_le + bytes(16) + struct.pack("<QQQ", at // 512, last, 0) + bytes(72)
        parts.append((at, content))
        at += -(-len(content) // MIB) * MIB
    head = bytearray(1024)
    head[510:512] = b"\x55\xaa"
    head[446 + 4] = 0xEE
    head[512:520] = b"EFI PART"
    struct.pack_into("<QII", head, 512 + 72, 2, len(entries), 128)
    with image.open("wb") as file:
        file.write(head + table)
        for place, content in parts:
            file.seek(place)
            file.write(content)
        file.truncate(at)
    return image


def test_a_folder_is_followed_within_itself(tmp_path: Path) -> None:
    """An absolute link in it means a file in it, as for a process that has it as its root."""
    root = userland(tmp_path / "root")
    assert parse_root(str(root), init=True) == FolderRoot(path=root, systemd=True)
    other = userland(tmp_path / "other", init="/usr/bin/dash")
    assert parse_root(str(other), init=True) == FolderRoot(path=other, systemd=False)


@pytest.mark.parametrize(
    ("gone", "init", "why"),
    [
        ("usr/bin/dash", False, "has no shell, /bin/sh"),
        ("usr/sbin/init", True, "has no init, /sbin/init"),
        ("usr/lib/systemd/systemd", True, "has no init"),
    ],
)
def test_a_folder_without_what_a_guest_needs(
    tmp_path: Path, gone: str, init: bool, why: str
) -> None:
    """It is refused on the host, in a sentence that names what is missing."""
    root = userland(tmp_path / "root")
    (root / gone).unlink()
    with pytest.raises(UsageError, match=why):
        parse_root(str(root), init=init)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/", "the root of this machine"),
        ("{}/absent", "there is no folder or file"),
        ("deb:", "names no suite"),
        ("deb:Book worm", "names no suite"),
        ("deb:bookworm,--setup-hook=id", "names no suite"),
        ("deb:bookworm,", "names no suite"),
        ("{}/text", "no file system of a kind that is known"),
        ("{}/short", "no file system of a kind that is known"),
        ("/dev/null", "is a device"),
        ("", "empty word"),
    ],
)
def test_what_is_no_root(tmp_path: Path, text: str, why: str) -> None:
    """Each is refused in a sentence, before anything is made."""
    (tmp_path / "text").write_text("hello\n" * 4096)
    (tmp_path / "short").write_text("hello\n")
    with pytest.raises(UsageError, match=why):
        parse_root(text.format(tmp_path), init=False)


def test_a_suite_with_packages() -> None:
    """Packages are a set: their order makes no other root."""
    wanted = SuiteRoot(suite="bookworm", packages=("bpftrace", "linux-perf"))
    assert parse_root("deb:bookworm,linux-perf,bpftrace,bpftrace", init=False) == wanted
    assert "mmdebstrap" not in [tool.name for tool in needed_tools("/srv/root")]


NO_RELEASE = """\
Err:2 http://mirror.example/debian nosuch Release
E: The repository 'http://mirror.example/debian nosuch Release' does not have a Release file.
E: apt-get update failed
E: mmdebstrap failed to run
"""


@pytest.mark.parametrize(
    ("said", "kind", "why"),
    [
        (NO_RELEASE, UsageError, "Debian's archive has no suite nosuch"),
        ("E: Unable to locate package perl9\nE: x\n", UsageError, "nosuch has no package perl9"),
        ("E: Could not resolve 'mirror'\n", DownloadFailed, "could not be made"),
        ("", DownloadFailed, "could not be made"),
    ],
)
def test_a_suite_that_is_not_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    kind: type[Exception],
    why: str,
) -> None:
    """What mmdebstrap says becomes a sentence; nothing of it stays in the cache."""
    program = tmp_path / "bin/mmdebstrap"
    program.parent.mkdir()
    (tmp_path / "said").write_text(said)
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\nmkdir $4\nexit 25\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("KLP_HARNESS_DEBIAN_MIRROR", "http://mirror.example/debian")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    store = Store(tmp_path / "cache")
    with pytest.raises(kind, match=why):
        obtain_root(
            SuiteRoot(suite="nosuch", packages=("perl9",)),
            init=False,
            store=store,
            deadline=Deadline.after(60),
            progress=Silent(),
        )
    assert not list((tmp_path / "cache/rootfs").glob("*/*"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="is made as root alone"):
        obtain_root(
            SuiteRoot(suite="nosuch", packages=()),
            init=False,
            store=store,
            deadline=Deadline.after(60),
            progress=Silent(),
        )


@needs("mkfs.ext4", "debugfs")
def test_an_ext4_image(tmp_path: Path) -> None:
    """Links in it are followed, and one that leads nowhere is no shell."""
    root = userland(tmp_path / "root")
    image = ext4(root, tmp_path / "image")
    parsed = parse_root(str(image), init=True)
    assert isinstance(parsed, ImageRoot)
    assert parsed.found is not None
    assert (parsed.found.file_system, parsed.found.offset) == ("ext4", 0)
    disk = obtain_root(
        parsed,
        init=True,
        store=Store(tmp_path / "cache"),
        deadline=Deadline.after(60),
        progress=Silent(),
    )
    assert (disk.image, disk.systemd, disk.size) == (image, True, 8 * MIB)
    (root / "usr/bin/dash").unlink()
    with pytest.raises(UsageError, match="has no shell"):
        parse_root(str(ext4(root, tmp_path / "other")), init=False)
    assert followed(find_file_system(image), "usr/nothing/here") is None


@needs("mkfs.ext4", "debugfs")
def test_a_damaged_ext4_image(tmp_path: Path) -> None:
    """One that is cut off, or of which the middle is gone, is refused."""
    image = ext4(userland(tmp_path / "root"), tmp_path / "image")
    whole = image.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: 5 * MIB])
    with pytest.raises(UsageError, match="is cut off: its ext4 has 8388608 bytes"):
        parse_root(str(tmp_path / "cut"), init=False)
    (tmp_path / "holed").write_bytes(whole[:2048] + bytes(MIB) + whole[MIB + 2048 :])
    with pytest.raises(UsageError, match="is damaged"):
        parse_root(str(tmp_path / "holed"), init=False)


@needs("mkfs.ext4", "debugfs")
def test_a_partition_of_a_disk(tmp_path: Path) -> None:
    """The one that says it is a root is taken, else the largest of Linux; another one is not."""
    small = ext4(userland(tmp_path / "root"), tmp_path / "small", 8).read_bytes()
    large = ext4(userland(tmp_path / "more"), tmp_path / "large", 16).read_bytes()
    marked = disk_of([(LINUX, large), (ROOT, small)], tmp_path / "marked")
    found = find_file_system(marked)
    assert (found.offset, found.size) == (17 * MIB, 8 * MIB)
    assert followed(found, "/sbin/init") == "/usr/lib/systemd/systemd"
    unmarked = disk_of([(LINUX, small), (LINUX, large)], tmp_path / "unmarked")
    assert find_file_system(unmarked).size == 16 * MIB
    other = disk_of([(UUID(int=1), small)], tmp_path / "foreign")
    with pytest.raises(UsageError, match="no file system"):
        find_file_system(other)


@needs("mksquashfs", "unsquashfs")
def test_a_squashfs_image(tmp_path: Path) -> None:
    """It is read like any other; one that is cut off is refused."""
    image = tmp_path / "root.squashfs"
    root = userland(tmp_path / "root")
    run(["mksquashfs", root, image, "-quiet", "-no-progress"], deadline=Deadline.after(60))
    parsed = parse_root(str(image), init=True)
    assert isinstance(parsed, ImageRoot)
    assert parsed.found is not None
    assert parsed.found.file_system == "squashfs"
    assert followed(parsed.found, "/bin/sh") == "/usr/bin/dash"
    assert followed(parsed.found, "/bin/none") is None
    (tmp_path / "cut").write_bytes(image.read_bytes()[:300])
    with pytest.raises(UsageError, match=r"cut off|no file system"):
        parse_root(str(tmp_path / "cut"), init=False)


@needs("qemu-img", "mkfs.ext4")
def test_a_qcow2_image(tmp_path: Path) -> None:
    """A copy in the cache is used; one that is damaged, or refers to another file, is refused."""
    raw = ext4(userland(tmp_path / "root"), tmp_path / "raw")
    image = tmp_path / "root.qcow2"
    deadline = Deadline.after(60)
    convert = ["qemu-img", "convert", "-O", "qcow2"]
    run([*convert, raw, image], deadline=deadline)
    parsed = parse_root(str(image), init=False)
    assert parsed == ImageRoot(path=image, found=None)
    store = Store(tmp_path / "cache")
    disk = obtain_root(parsed, init=True, store=store, deadline=deadline, progress=Silent())
    assert disk.image.is_relative_to(tmp_path / "cache")
    assert disk.systemd
    run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, tmp_path / "above"],
        deadline=deadline,
    )
    with pytest.raises(UsageError, match="refers to another file"):
        parse_root(str(tmp_path / "above"), init=False)
    content = image.read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    (tmp_path / "holed").write_bytes(content[:32] + b"\xff" * 64 + content[96:])
    for name in ("cut", "holed"):
        with pytest.raises(UsageError, match="damaged or cut off"):
            parse_root(str(tmp_path / name), init=False)


@needs("qemu-img", "mkfs.ext4")
def test_a_folder_becomes_an_image_again_when_it_changes(tmp_path: Path) -> None:
    """The cache knows it by names, modes, sizes and times of all that is in it."""
    root = userland(tmp_path / "root")
    store = Store(tmp_path / "cache")

    def image() -> Path:
        spec = parse_root(str(root), init=False)
        return obtain_root(
            spec, init=False, store=store, deadline=Deadline.after(60), progress=Silent()
        ).image

    first = image()
    assert image() == first
    (root / "etc/new").write_text("x")
    second = image()
    assert second != first
    assert followed(find_file_system(second), "/etc/new") == "/etc/new"
    assert followed(find_file_system(first), "/etc/new") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_folder_that_is_not_readable_as_a_whole(tmp_path: Path) -> None:
    """A root without its secrets would be another root."""
    root = userland(tmp_path / "root")
    (root / "etc/shadow").write_text("x")
    (root / "etc/shadow").chmod(0)
    with pytest.raises(UsageError, match="cannot be read"):
        obtain_root(
            parse_root(str(root), init=False),
            init=False,
            store=Store(tmp_path / "cache"),
            deadline=Deadline.after(60),
            progress=Silent(),
        )


@needs("qemu-img")
def test_layers_have_no_names(tmp_path: Path) -> None:
    """A guest's own layer is a file that is gone when its descriptor is; a clone has three."""
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    disk = RootDisk(image=image, file_system="ext4", size=MIB, source="x")
    with contextlib.ExitStack() as opened:
        deadline = Deadline.after(60)
        own = open_layers(disk, tmp_path, opened, below=None, deadline=deadline)
        above = f"/proc/self/fd/{own.descriptors[-1]}"
        clone = open_layers(disk, tmp_path, opened, below=above, deadline=deadline)
        assert (len(own.descriptors), len(clone.descriptors)) == (2, 3)
        assert [path.name for path in tmp_path.iterdir()] == ["image"]
        assert os.pread(clone.descriptors[-1], 4, 0) == b"QFI\xfb"
        same = os.path.sameopenfile(own.descriptors[-1], clone.descriptors[1])
        assert same
        writable = [bool(os.O_RDWR & _flags(number)) for number in clone.descriptors]
        assert writable == [False, False, True]


def _flags(descriptor: int) -> int:
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    return int(text.partition("flags:")[2].split()[0], 8)


def test_what_qemu_is_given() -> None:
    """Descriptors and no path; only the highest layer can be written to."""
    disk = RootDisk(image=Path("/i"), file_system="ext4", size=512, offset=1024, source="x")
    words = disk_arguments(disk, Layers(descriptors=(7, 8, 9)))
    assert words[-1] == "virtio-blk-pci,drive=root2"
    assert "fd=7,set=0" in words
    assert any("offset=1024,size=512" in word for word in words)
    assert [word for word in words if "read-only=off" in word] == [
        "driver=file,filename=/dev/fdset/2,locking=off,node-name=root2-file,read-only=off",
        "driver=qcow2,node-name=root2,read-only=off,file=root2-file,backing=root1",
    ]
    assert not any("/i" in word for word in words)


@pytest.mark.parametrize("file_system", ["ext4", "squashfs"])
@pytest.mark.parametrize("init", [False, True])
def test_the_scripts_are_scripts(tmp_path: Path, file_system: str, init: bool) -> None:
    """A shell reads each to its end; nothing is left to be filled in."""
    disk = RootDisk(
        image=Path("/i"), file_system=file_system, size=1, source="x", init=init, systemd=init
    )
    texts = initramfs_files(disk)
    for name in ("/etc/rc", "/etc/rc-entered", "/bin/klp-shell"):
        script = tmp_path / "script"
        script.write_text(texts[name])
        run(["sh", "-n", script], deadline=Deadline.after(10))
        assert "{file_system}" not in texts[name]
        assert "{{" not in texts[name]
    assert ("exec /sbin/init" in texts["/etc/rc-entered"]) is init
    assert ("rdinit=/etc/rc" in kernel_args(disk)) is init
    assert placed({"/etc/x": Path("/y")}) == {"/klp-files/etc/x": Path("/y")}


def test_a_kernel_without_a_disk() -> None:
    """What it lacks is named; as a module it counts when the module is there."""
    require = partial(require_for_root, file_system="ext4", systemd=False)
    with pytest.raises(KernelUnfit, match="CONFIG_VIRTIO_BLK, CONFIG_EXT4_FS"):
        require(KernelConfig({}), "this", modules=())
    config = KernelConfig({"CONFIG_VIRTIO_BLK": "m", "CONFIG_EXT4_FS": "y"})
    with pytest.raises(KernelUnfit, match="without CONFIG_VIRTIO_BLK"):
        require(config, "this", modules=["ext4"])
    require(config, "this", modules=["virtio_blk"])
    with pytest.raises(KernelUnfit, match="CONFIG_CGROUPS"):
        require_for_root(config, "this", file_system="ext4", systemd=True, modules=["virtio_blk"])
