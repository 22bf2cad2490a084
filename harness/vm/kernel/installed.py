# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that is installed on this machine, or below another root: copied to the cache, and used
from there, so that an update of the system changes nothing under a run."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import shown
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.headers import copy_headers
from harness.vm.kernel.inventory import PACKAGES
from harness.vm.kernel.layout import find_layout
from harness.vm.kernel.packaged import (
    ROOT,
    STUB_BYTES,
    add_drivers,
    describe_entry,
    entry_key,
    packaged_in,
    require_own_vmlinux,
)

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.finished_spec import InstalledSpec
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.layout import Layout
    from harness.vm.kernel.progress import Progress

_KALLSYMS = Path("/proc/kallsyms")
_PACKAGED_HEADERS = (("usr", "src"), ("usr", "lib", "modules"), ("lib", "modules"))


def kernel_from_installed(
    named: InstalledSpec, spec: str, *, store: Store, deadline: Deadline, progress: Progress
) -> Kernel:
    """Return the installed kernel of an image.

    Its modules, configuration and headers are those of the same root: that of /boot/vmlinuz-X is /.
    Raises UsageError when a part is missing, may not be read, or is of another release; KernelUnfit
    when the kernel cannot be tested.
    """
    image = named.image.resolve()
    where = f"the installed kernel {shown(named.image)}"
    try:
        return _obtain(image, spec, where, store, deadline, progress)
    except PermissionError as error:
        raise UsageError(
            f"{shown(error.filename)} of {where} cannot be read: this user has no permission",
            hint="Ubuntu lets root alone read kernel images: copy the image aside together with "
            "its folders boot, lib and usr, give the packages (deb:FILE,...), or run as root",
        ) from error


def _obtain(
    image: Path, spec: str, where: str, store: Store, deadline: Deadline, progress: Progress
) -> Kernel:
    root = _root_of(image)
    layout = find_layout(root, where, image=image)
    config = KernelConfig.read(layout.config)
    require_own_vmlinux(layout, where)
    symbols = _symbols(layout)
    key = entry_key([layout.release, *_content(layout, symbols)])

    def fill(folder: Path) -> None:
        progress.stage(f"copying {where}")
        place = folder / ROOT
        for path, name in (
            (layout.image, f"boot/vmlinuz-{layout.release}"),
            (layout.config, f"boot/config-{layout.release}"),
            (layout.vmlinux, f"usr/lib/debug/boot/vmlinux-{layout.release}"),
        ):
            if path is not None:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place / name)
        if symbols is not None:
            (place / f"boot/System.map-{layout.release}").write_bytes(symbols)
        modules = place / "lib/modules" / layout.release
        modules.mkdir(parents=True)
        in_place = not _are_packaged(layout)
        if not in_place:
            headers = copy_headers(layout.headers, root, place)
            (modules / "build").symlink_to(os.path.relpath(headers, modules))
        add_drivers(folder, layout, config, where=where, deadline=deadline)
        describe_entry(
            folder,
            layout,
            config,
            key=key,
            source=where,
            headers=layout.headers if in_place else None,
        )

    return packaged_in(store.obtain(PACKAGES, key, fill, deadline=deadline), spec)


def _root_of(image: Path) -> Path:
    """Return the root that an image is installed below."""
    if image.parent.name == "boot":
        return image.parents[1]
    modules = image.parents[1] if len(image.parts) > 2 else image
    if modules.name == "modules" and modules.parent.name == "lib":
        above = modules.parents[1]
        return above.parent if above.name == "usr" else above
    raise UsageError(
        f"{shown(image)} is not in a folder boot or lib/modules/X, where a kernel is installed",
        hint="modules, configuration and headers are looked for beside that folder",
    )


def _are_packaged(layout: Layout) -> bool:
    """Return whether the headers are a package's, and no tree that the kernel was built in."""
    if not layout.headers.is_relative_to(layout.root):
        return False
    parts = layout.headers.relative_to(layout.root).parts
    return any(parts[: len(place)] == place for place in _PACKAGED_HEADERS)


def _symbols(layout: Layout) -> bytes | None:
    """Return the System.map, or what the running kernel says of itself; None without both.

    Debian's System.map is one line that names another package, and root alone may read Ubuntu's.
    """
    if layout.symbols is not None and os.access(layout.symbols, os.R_OK):
        content = layout.symbols.read_bytes()
        if len(content) >= STUB_BYTES:
            return content
    if not _is_running(layout):
        return None
    # Those of modules have a fourth word, [module]; so do programs of BPF.
    lines = _KALLSYMS.read_bytes().splitlines(keepends=True) if _KALLSYMS.exists() else []
    content = b"".join(line for line in lines if line.count(b"\t") == 0)
    return content if len(content) >= STUB_BYTES else None


def _is_running(layout: Layout) -> bool:
    return layout.root == Path("/") and layout.release == os.uname().release


def _content(layout: Layout, symbols: bytes | None) -> list[str]:
    """Return what says whether the installed kernel is another one than before."""
    digests = []
    for path in (layout.image, layout.config, layout.headers / "Module.symvers"):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    # Addresses are hidden from users other than root: the names alone count.
    names = [line.split(b" ")[-1] for line in (symbols or b"").splitlines()]
    digests.append(hashlib.sha256(b"\n".join(names)).hexdigest())
    if layout.vmlinux is not None:
        status = layout.vmlinux.stat()
        digests.append(f"{status.st_size} {status.st_mtime_ns}")
    digests.append(str(layout.headers))
    return digests
