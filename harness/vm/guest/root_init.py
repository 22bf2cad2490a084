# SPDX-License-Identifier: GPL-2.0-only
"""What the initramfs of a guest with a root file system of its own does before that takes over.

The initramfs stays mounted, at TOOLS in the new root: agent, guest programs and SSH server do not
depend on what is in that root, and are at the same paths as in other guests. The SSH server runs in
the initramfs and the shells that it starts in the new root, as does the agent.

Process 1 is busybox's init, which only waits for its children, or the init of the new root.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.vm.guest.boot_failures import ROOT_FAULT
from harness.vm.guest.initramfs import (
    AGENT_ON_LINE,
    AGENT_SERVER,
    DEVICES_UP,
    MODULE_DIR,
    RC_BEGINNING,
    RC_PLACE,
    READY_LINE,
    SSH_SERVER,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.root_disk import RootDisk

TOOLS = "/run/klp-harness"
FILES = "/klp-files"
"""Where the initramfs has the files that are to be in the new root."""
_ENTERED, _SHELL = "/etc/rc-entered", "/bin/klp-shell"
_BUSYBOX = f"{TOOLS}/bin/busybox"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SSH_SERVER = replace(SSH_SERVER, command=(_BUSYBOX, "chroot", TOOLS, *SSH_SERVER.command))
_DISK = "/dev/vda"
_READ_ONLY = ("squashfs",)

# udev would give the network card, which is in use, another name; a login prompt on the console
# would stand in the middle of the kernel's lines.
_INIT_ARGS = ("net.ifnames=0", "systemd.getty_auto=no", f"rdinit={RC_PLACE}")

# The disk is found a moment after its driver is loaded.
_ENTER_TEXT = f"""\
fails() {{{{
	lacks "{ROOT_FAULT}$*"
	echo "{READY_LINE}"
	while :; do sleep 1000; done
}}}}
tries=0
while [ ! -b {_DISK} ] && [ $tries -lt 200 ]; do
	tries=$((tries + 1))
	usleep 50000
done
mkdir -p /sysroot
{{mount}}
mkdir -p /sysroot/proc /sysroot/sys /sysroot/dev /sysroot/run /sysroot/tmp
mount -t tmpfs -o mode=755 tmpfs /sysroot/run || fails "has no folder run"
mkdir -p /sysroot{TOOLS}
mount -o bind / /sysroot{TOOLS}
for folder in proc sys dev; do
	mount -o rbind /$folder /sysroot/$folder
	mount -o rbind /$folder /sysroot{TOOLS}/$folder
done
umount /tmp
chroot /sysroot /bin/sh -c : || fails "has a shell, /bin/sh, that does not run"
cd /sysroot
mount -o move . /
exec chroot . {_BUSYBOX} sh {TOOLS}{_ENTERED}
"""

_MOUNT = f"""\
mount -t {{file_system}} {_DISK} /sysroot ||
	fails "is not mounted by this kernel: {{file_system}} that is damaged, or too new for it"
"""
_MOUNT_BELOW = f"""\
mkdir -p /below /above
mount -t tmpfs tmpfs /above
mkdir -p /above/upper /above/work
mount -t {{file_system}} {_DISK} /below ||
	fails "is not mounted by this kernel: {{file_system}} that is damaged, or too new for it"
mount -t overlay -o lowerdir=/below,upperdir=/above/upper,workdir=/above/work overlay /sysroot ||
	fails "is read-only, and this kernel mounts no overlay above it"
"""

_ENTERED_TEXT = f"""\
export PATH={_PATH} HOME=/root
bb() {{{{
	{_BUSYBOX} "$@"
}}}}
cd /
bb mkdir -p /root /bin /lib/modules
for program in {TOOLS}/bin/klp-*; do
	bb ln -sf $program /bin/
done
bb ln -sfn {TOOLS}{MODULE_DIR} {MODULE_DIR}
[ ! -d {TOOLS}{FILES} ] || bb cp -a {TOOLS}{FILES}/. /
{AGENT_ON_LINE}
{AGENT_SERVER.start()}
{_SSH_SERVER.start(output=f"{TOOLS}/ssh.pid")}
{{ready}}
"""

_READY = f'echo "{READY_LINE}"'
# Until systemd listens, systemctl ends at once; then it waits until the boot has ended.
_READY_WITH_INIT = f"""\
(
	while :; do
		state=$(systemctl is-system-running --wait 2>/dev/null)
		case "$state" in
		running) break ;;
		degraded | maintenance)
			echo "klp-harness: systemd is $state: $(systemctl --failed --plain --no-legend |
				bb cut -d' ' -f1 | bb tr '\\n' ' ')"
			break ;;
		esac
		bb usleep 100000
	done
	{_READY}
) &
exec /sbin/init"""
_READY_WITH_OTHER_INIT = f"{_READY}\nexec /sbin/init"

_SHELL_TEXT = f"""\
#!/bin/busybox sh
export PATH={_PATH} HOME=/root SHELL=/bin/sh
root=/proc/$(cat /ssh.pid)/root
[ $# -gt 0 ] || set -- -c 'cd; [ ! -x /bin/bash ] || exec bash -l; exec sh -l'
exec busybox chroot $root /bin/sh "$@"
"""


def kernel_args(root: RootDisk) -> tuple[str, ...]:
    """Return the words that a guest with this root has on its kernel's command line."""
    return _INIT_ARGS if root.init else ()


def initramfs_files(root: RootDisk) -> Mapping[str, str]:
    """Return the texts that its initramfs has in place of the usual ones, by their paths."""
    mount = _MOUNT_BELOW if root.file_system in _READ_ONLY else _MOUNT
    enter = _ENTER_TEXT.format(mount=mount.format(file_system=root.file_system).rstrip())
    ready = _READY
    if root.init:
        ready = _READY_WITH_INIT if root.systemd else _READY_WITH_OTHER_INIT
    # Process 1 has to become the root's init; without one, it stays busybox's.
    return {
        RC_PLACE: f"{RC_BEGINNING}{DEVICES_UP}{enter}",
        _ENTERED: _ENTERED_TEXT.format(ready=ready),
        _SHELL: _SHELL_TEXT,
        "/etc/passwd": f"root:x:0:0:root:/root:{_SHELL}\n",
        "/etc/shells": f"{_SHELL}\n",
    }


def placed(files: Mapping[str, Path]) -> Mapping[str, Path]:
    """Return files of the guest by the paths at which the initramfs has them."""
    return {f"{FILES}{path}": source for path, source in files.items()}
