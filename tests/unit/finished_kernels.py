# SPDX-License-Identifier: GPL-2.0-only
"""Finished kernels for tests: small files in the places where distributions have the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.vm.kernel.requirements import GUEST_NEEDS, RELIABLE_STACK

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "".join(f"CONFIG_{name}=y\n" for name in (*GUEST_NEEDS, *RELIABLE_STACK))
_VERSION_AT = 0x240


def image_of(release: str, *, magic: bytes = b"HdrS", flags: int = 1) -> bytes:
    """Return the head of a bzImage of a release (Documentation/arch/x86/boot.rst)."""
    head = bytearray(0x300)
    head[0x202:0x206], head[0x236] = magic, flags
    head[0x20E:0x210] = (_VERSION_AT - 0x200).to_bytes(2, "little")
    text = f"{release} (builder@example) #1 SMP\0".encode()
    head[_VERSION_AT : _VERSION_AT + len(text)] = text
    return bytes(head)


def write_files(root: Path, files: dict[str, bytes | str]) -> Path:
    """Write files below a folder, by their paths there; return the folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if content[:2] in (b"#!", "#!"):
            path.chmod(0o755)
    return root


def host_programs(folder: str = "") -> dict[str, bytes | str]:
    """Return the programs that Kbuild starts for a module, as files for `write_files`."""
    names = ("scripts/basic/fixdep", "scripts/mod/modpost")
    return {f"{folder}{name}": "#!/bin/sh\nexit 2\n" for name in names}


def system_map(*functions: str) -> str:
    """Return a System.map with these functions among enough others."""
    names = [*functions, *(f"filler_{number:04}" for number in range(300))]
    return "".join(f"{0xFFFFFFFF81000000 + 16 * n:016x} T {name}\n" for n, name in enumerate(names))


def debian_root(root: Path, release: str, *, config: str = CONFIG) -> Path:
    """Make a root with a kernel as Debian installs it; return the root."""
    headers = f"usr/src/linux-headers-{release}"
    write_files(
        root,
        {
            f"boot/vmlinuz-{release}": image_of(release),
            f"boot/config-{release}": config,
            f"boot/System.map-{release}": "ffffffffffffffff B The real System.map is elsewhere\n",
            f"lib/modules/{release}/modules.order": "",
            f"{headers}/Makefile": "include /usr/src/linux-headers-common/Makefile\n",
            f"{headers}/Module.symvers": "0x1\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n",
            f"{headers}/include/generated/utsrelease.h": f'#define UTS_RELEASE "{release}"\n',
            "usr/src/linux-headers-common/Makefile": "all:\n\t@echo it is "
            "$(abspath $(lastword $(MAKEFILE_LIST)))\n",
            **host_programs("usr/lib/linux-kbuild-6/"),
        },
    )
    (root / headers / "scripts").symlink_to("/usr/lib/linux-kbuild-6/scripts")
    (root / f"lib/modules/{release}/build").symlink_to(f"/{headers}")
    return root
