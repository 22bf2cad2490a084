# SPDX-License-Identifier: GPL-2.0-only
"""Files of packages, .deb and .rpm: what they say they are, and their content, unpacked aside.

Nothing is installed and no script of a package runs. Both formats go through the distribution's own
tools to tar, which writes nothing outside of the folder that it is given.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import wait_until
from harness.errors import CommandTimeout, MissingTool, NoSpace, UsageError
from harness.inputs import shown
from harness.vm.host.files import odd_files
from harness.vm.host.process import DEVNULL, find_program, run, spawn
from harness.vm.kernel.finished_spec import Packaging

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.deadline import Deadline

_ARCHITECTURES = {
    Packaging.DEB: ("amd64", "all"),
    Packaging.RPM: ("x86_64", "noarch"),
}
_TOOL_HINT = {
    Packaging.DEB: "it is in the package dpkg",
    Packaging.RPM: "rpm and rpm2archive are in the package rpm",
}
# Debian's package of a kernel's debug information has some 6 GiB when it is unpacked.
_MOST_BYTES = 16 << 30
# What stays free on the disk besides.
_SPARE_BYTES = 1 << 30
# As root, tar would keep owners, and the bits of set-user-ID programs.
_TAR = ("tar", "--extract", "--no-same-owner", "--no-same-permissions")


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """What the file of a package says of itself."""

    path: Path
    name: str
    version: str

    @property
    def description(self) -> str:
        """Name and version, for people."""
        return f"{self.name} {self.version}"


def read_package(path: Path, packaging: Packaging, deadline: Deadline) -> PackageFile:
    """Return what a file says it is, without unpacking it.

    Raises UsageError when it is no package, is damaged, or is for another architecture; MissingTool
    without dpkg or rpm.
    """
    require_tools(packaging)
    if packaging is Packaging.DEB:
        fields = ("Package", "Version", "Architecture")
        form = "".join(f"${{{field}}}\t" for field in fields)
        argv: list[str | Path] = ["dpkg-deb", "--show", f"--showformat={form}", path]
    else:
        form = "%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\t"
        argv = ["rpm", "--query", "--nosignature", f"--queryformat={form}", "--package", path]
    said = run(argv, deadline=deadline, explain=lambda _: _damaged(path, packaging)).stdout
    name, version, architecture, *_ = [*said.split("\t"), "", "", ""]
    if not name or not version:
        raise _damaged(path, packaging)
    accepted = _ARCHITECTURES[packaging]
    if architecture not in accepted:
        raise UsageError(
            f"{shown(path)} is for {shown(architecture) or 'no machine'}, and the guests are "
            f"x86_64 ({' or '.join(accepted)})",
            hint=f"give the package for {accepted[0]}",
        )
    return PackageFile(path=path, name=name, version=version)


def unpack(files: Iterable[Path], packaging: Packaging, root: Path, deadline: Deadline) -> None:
    """Unpack packages over each other into a folder.

    Raises UsageError for one that is damaged, NoSpace, MissingTool.
    """
    require_tools(packaging)
    root.mkdir(parents=True, exist_ok=True)
    for path in files:
        if packaging is Packaging.DEB:
            _unpack_deb(path, root, deadline)
        else:
            _unpack_rpm(path, root, deadline)
        odd = next(odd_files(root), None)
        if odd is not None:
            raise UsageError(
                f"{shown(path)} is no package of a kernel: {shown(odd.relative_to(root))} in it is "
                "a pipe, a socket or a device"
            )
    _merge_lib(root)


def _merge_lib(root: Path) -> None:
    """Make lib a link to usr/lib, as on the systems that such packages are installed on.

    Debian's packages of one kernel have lib/modules/X and usr/lib/modules/X.
    """
    lib = root / "lib"
    if lib.is_symlink() or not lib.is_dir():
        return
    _move_into(lib, root / "usr/lib")
    if not any(lib.iterdir()):
        lib.rmdir()
        lib.symlink_to("usr/lib")


def _move_into(folder: Path, to: Path) -> None:
    """Move what is in a folder to another, into folders that are in both; keep what is there."""
    to.mkdir(parents=True, exist_ok=True)
    for path in list(folder.iterdir()):
        target = to / path.name
        if not target.exists() and not target.is_symlink():
            path.rename(target)
        elif path.is_dir() and not path.is_symlink() and not target.is_symlink():
            _move_into(path, target)
            if not any(path.iterdir()):
                path.rmdir()


def require_tools(packaging: Packaging) -> None:
    """Raise MissingTool when the programs that read such packages are not installed."""
    programs = ("dpkg-deb",) if packaging is Packaging.DEB else ("rpm", "rpm2archive")
    for program in programs:
        try:
            find_program(program)
        except MissingTool as error:
            raise MissingTool(
                f"{error.message}: without it no .{packaging} can be read",
                hint=_TOOL_HINT[packaging],
            ) from error


def _unpack_deb(path: Path, root: Path, deadline: Deadline) -> None:
    def damaged(_: object) -> UsageError:
        return _damaged(path, Packaging.DEB)

    listed = run(["dpkg-deb", "--contents", path], deadline=deadline, explain=damaged).stdout
    # -rw-r--r-- root/root    259360 2026-11-16 10:17 ./boot/config-6.1
    sizes = (line.split(maxsplit=3)[2:3] for line in listed.splitlines())
    size = sum(int(size[0]) for size in sizes if size and size[0].isdecimal())
    _require_room(path, 2 * size, root)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix="scratch-") as folder:
        archive = Path(folder, "data.tar")
        # dpkg-deb --extract would keep owners and set-user-ID bits, and follow links out of the
        # folder.
        with (
            archive.open("wb") as data,
            spawn(["dpkg-deb", "--fsys-tarfile", path], stdout=data, stderr=DEVNULL) as child,
        ):
            if not wait_until(lambda: child.poll() is not None, deadline, interval_s=0.05):
                raise CommandTimeout(f"dpkg-deb did not unpack {path.name} in time")
        if child.returncode != 0:
            raise damaged(None)
        run([*_TAR, "--file", archive, "--directory", root], deadline=deadline, explain=damaged)


def _unpack_rpm(path: Path, root: Path, deadline: Deadline) -> None:
    def damaged(_: object) -> UsageError:
        return _damaged(path, Packaging.RPM)

    # Header and content have digests of their own, which need no key.
    checked: list[str | Path] = ["rpmkeys", "--checksig", "--nosignature", path]
    run(checked, deadline=deadline, explain=damaged)
    asked: list[str | Path] = [
        "rpm",
        "--query",
        "--nosignature",
        "--queryformat=%{LONGSIZE}",
        "--package",
        path,
    ]
    size = run(asked, deadline=deadline, explain=damaged).stdout.strip()
    _require_room(path, 2 * int(size) if size.isdecimal() else 0, root)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix="scratch-") as folder:
        # It writes the archive beside the package.
        link = Path(folder, "package.rpm")
        link.symlink_to(path)
        limited = ["prlimit", f"--fsize={_MOST_BYTES}", "--"]
        run([*limited, "rpm2archive", link], deadline=deadline, explain=damaged)
        archives = [each for each in Path(folder).iterdir() if each != link]
        if len(archives) != 1:
            raise _damaged(path, Packaging.RPM)
        argv: list[str | Path] = [*_TAR, "--file", archives[0], "--directory", root]
        run([*limited, *argv], deadline=deadline, explain=damaged)


def _require_room(path: Path, size_bytes: int, root: Path) -> None:
    if size_bytes > _MOST_BYTES:
        raise UsageError(
            f"{shown(path)} says it has {size_bytes >> 30} GiB when it is unpacked, which is no "
            "size of a kernel's package"
        )
    free = shutil.disk_usage(root).free
    if free < size_bytes + _SPARE_BYTES:
        raise NoSpace(
            f"{path.name} takes {size_bytes >> 20} MiB below {root}, which has {free >> 20} free",
            hint="`klp-harness kernel prune` removes kernels that are not in use; "
            "KLP_HARNESS_CACHE moves the cache",
        )


def _damaged(path: Path, packaging: Packaging) -> UsageError:
    return UsageError(
        f"{shown(path)} is no .{packaging} package, or it is damaged or cut off",
        hint="fetch it again, and compare its checksum",
    )
