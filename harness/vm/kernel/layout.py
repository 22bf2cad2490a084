# SPDX-License-Identifier: GPL-2.0-only
"""Where distributions put the parts of a kernel, below / or where packages were unpacked.

Debian and Ubuntu: boot/vmlinuz-X, config-X and System.map-X, lib/modules/X, and headers in
usr/src/linux-headers-X. Fedora and SUSE: lib/modules/X/vmlinuz, config, System.map; headers in
usr/src/kernels/X, or usr/src/linux-V-obj/x86_64/FLAVOUR. lib/modules/X/build leads to the headers,
by a path that begins at the root, so links are followed within the root.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import KernelUnfit, UsageError
from harness.inputs import MIB, read_file, read_text_file, shown

_IMAGE = "vmlinuz"
_MODULES = ("lib/modules", "usr/lib/modules")
_DEBUG = (
    "usr/lib/debug/boot/vmlinux-{0}",
    "usr/lib/debug/boot/vmlinux-{0}.debug",
    "usr/lib/debug/lib/modules/{0}/vmlinux",
    "usr/lib/debug/usr/lib/modules/{0}/vmlinux",
    "usr/lib/debug/usr/lib/modules/{0}/vmlinux.debug",
)
_MOST_LINKS = 40
_UTS_RELEASE = re.compile(r'^#define UTS_RELEASE "([^"]*)"', re.MULTILINE)
# It becomes part of paths.
_RELEASE = re.compile(r"\w[\w.+~-]{0,127}\Z", re.ASCII)
# struct setup_header, Documentation/arch/x86/boot.rst: kernel_version is an offset from 0x200.
_SETUP_BYTES = 0x10200
_MAGIC_AT, _MAGIC, _VERSION_AT, _VERSION_BASE = 0x202, b"HdrS", 0x20E, 0x200
_MOST_RELEASE = 128
# The longest image that is one: Debian's have 8 MiB, one with everything built in 100.
_MOST_IMAGE = 512 * MIB


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The parts of one kernel. ``modules`` and ``headers`` are folders.

    ``symbols`` is its System.map, ``vmlinux`` comes from a package of debug information.
    """

    root: Path
    release: str
    image: Path
    config: Path
    modules: Path
    headers: Path
    symbols: Path | None
    vmlinux: Path | None


def find_layout(
    root: Path, where: str, *, image: Path | None = None, headers: Path | None = None
) -> Layout:
    """Return the parts of the kernel below a root; ``where`` names it in sentences.

    Without ``image`` there must be just one kernel. ``headers``: where they are, when that is
    known. Raises UsageError for a part that is missing,
    or belongs to another kernel.
    """
    image = image or _only_image(root, where)
    release = image_release(image)
    config = first_of(
        root,
        f"boot/config-{release}",
        *(f"{folder}/{release}/config" for folder in _MODULES),
    )
    modules = first_of(root, *(f"{folder}/{release}" for folder in _MODULES))
    if modules is None or not modules.is_dir():
        others = _releases(root)
        found = f"; those of {', '.join(others[:3])} are there" if others else ""
        raise UsageError(
            f"{where} is the kernel {release}, and its modules in lib/modules/{release} are "
            f"missing{found}",
            hint="image, modules and headers belong to one release: give or install the package "
            "that has its modules",
        )
    headers = _headers(root, release, where, headers)
    config = config or first_of(headers, ".config")
    if config is None:
        raise UsageError(
            f"{where} has no configuration: neither boot/config-{release} nor "
            f"lib/modules/{release}/config",
            hint="a distribution's kernel package has it",
        )
    return Layout(
        root=root,
        release=release,
        image=image,
        config=config,
        modules=modules,
        headers=headers,
        symbols=first_of(
            root,
            f"boot/System.map-{release}",
            *(f"{folder}/{release}/System.map" for folder in _MODULES),
        ),
        vmlinux=first_of(root, *(path.format(release) for path in _DEBUG)),
    )


def image_release(image: Path) -> str:
    """Return the release that an image says it is. Raises UsageError when it is none of x86."""
    head = read_file(image, "the kernel's image", at_most=_MOST_IMAGE)[:_SETUP_BYTES]
    if head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        raise UsageError(f"{shown(image.name)} is no image of an x86 kernel (bzImage)")
    at = int.from_bytes(head[_VERSION_AT : _VERSION_AT + 2], "little")
    words = head[at + _VERSION_BASE :][:_MOST_RELEASE].partition(b"\0")[0].split()
    release = words[0].decode(errors="replace") if at and words else ""
    if not _RELEASE.match(release):
        raise UsageError(f"the image {shown(image.name)} does not say which release it is")
    return release


def first_of(root: Path, *paths: str) -> Path | None:
    """Return the first of these paths below a root that exists, its links followed there."""
    for path in paths:
        found = within(root, path)
        if found is not None and found.exists():
            return found
    return None


def within(root: Path, path: str | PurePosixPath) -> Path | None:
    """Return where a path below a root leads when that root is /; None for links in a circle.

    No link leads out of it, as for a process that called chroot(2).
    """
    done: list[str] = []
    todo = list(reversed(PurePosixPath(path).parts))
    links = 0
    while todo:
        part = todo.pop()
        if part in ("/", "."):
            done = [] if part == "/" else done
        elif part == "..":
            done = done[:-1]
        else:
            try:
                target = root.joinpath(*done, part).readlink()
            except OSError:  # no link, or not there
                done.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            todo += reversed(target.parts)
    return root.joinpath(*done)


def _only_image(root: Path, where: str) -> Path:
    found: dict[str, Path] = {}
    boot = within(root, "boot")
    candidates = sorted(boot.glob(f"{_IMAGE}-*")) if boot is not None else []
    for folder in _MODULES:
        place = within(root, folder)
        candidates += sorted(place.glob(f"*/{_IMAGE}")) if place is not None else []
    for path in candidates:
        image = within(root, str(path.relative_to(root)))
        if image is not None and image.is_file():
            found.setdefault(image_release(image), image)
    if not found:
        raise UsageError(
            f"{where} has no kernel image: neither boot/vmlinuz-X nor lib/modules/X/vmlinuz",
            hint="the package with the kernel itself is linux-image-X on Debian and Ubuntu, "
            "kernel-core on Fedora, kernel-default on SUSE",
        )
    if len(found) > 1:
        raise UsageError(
            f"{where} has {len(found)} kernels: {', '.join(found)}",
            hint="give the packages of one",
        )
    return next(iter(found.values()))


def _releases(root: Path) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for folder in _MODULES:
        place = within(root, folder)
        if place is not None and place.is_dir():
            found |= dict.fromkeys(sorted(path.name for path in place.iterdir()))
    return tuple(found)


def _headers(root: Path, release: str, where: str, known: Path | None) -> Path:
    """Return the folder that modules are built against, after it was looked into."""
    linked = [f"{folder}/{release}/build" for folder in _MODULES]
    usual = [f"usr/src/linux-headers-{release}", f"usr/src/kernels/{release}"]
    candidates = [path for each in (*linked, *usual) if (path := within(root, each)) is not None]
    candidates += sorted(root.glob("usr/src/linux-*-obj/x86_64/*"))
    candidates = [known] if known is not None else candidates
    others = []
    for folder in candidates:
        if not (folder / "Makefile").is_file():
            continue
        said = headers_release(folder)
        if said not in (None, release):
            others.append(said)
        elif (folder / "Module.symvers").is_file():
            return folder
    if others:
        raise UsageError(
            f"{where} is the kernel {release}, and its headers are those of {others[0]}",
            hint="modules are built against headers of the very same build: give or install those",
        )
    raise KernelUnfit(
        f"{where} comes without the headers of {release}: no module can be built for it",
        hint=f"the package with them is linux-headers-{release} on Debian and Ubuntu, kernel-devel "
        "on Fedora, kernel-default-devel and kernel-devel on SUSE",
    )


def headers_release(folder: Path) -> str | None:
    """Return which release modules get that are built here; None when the folder does not say.

    That is UTS_RELEASE; in Debian's headers include/config/kernel.release is another one.
    """
    path = folder / "include/generated/utsrelease.h"
    if not path.is_file():
        return None
    match = _UTS_RELEASE.search(read_text_file(path, "the headers' release", at_most=MIB))
    return match[1] if match is not None else None
