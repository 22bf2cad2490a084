# SPDX-License-Identifier: GPL-2.0-only
"""The guest's whole disk: busybox, dropbear, kmod, bash and our guest programs in a cpio archive.

The archive has two parts, which the kernel unpacks one after the other (Documentation/
driver-api/early-userspace/buffer-format.rst): a base that is cached, and a small one with the keys
of this run.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import HarnessError, MissingTool
from harness.vm.guest.programs import build_programs
from harness.vm.host.lookup import is_static
from harness.vm.host.process import find_program, run
from harness.vm.kernel.kernel import SIGNED_WORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.vm.guest.keys import RunKeys
    from harness.vm.host.cache import Store

READY_LINE = "klp-harness: guest is ready"
SSH_PORT = 22
AGENT_PORT = 23
_SSH_PLACE = f"0.0.0.0:{SSH_PORT}"
_PORT, _SSH_LINE = "/dev/vport0p1", "/dev/vport0p2"
_AGENT_PLACE = f"127.0.0.1:{AGENT_PORT}"
SSH_IDLE_LINE = f"klp-standby: no connection to {_SSH_PLACE} is open"
GUEST_ADDRESS = "10.0.2.15"
LACKS_LINE = "klp-harness: this guest cannot serve: "
"""Begins what the guest prints when its kernel lacks something that shows right after the boot."""
MODULE_DIR = "/lib/modules/klp"
ALL_PROGRAMS = "/bin/klp-programs"
"""The guest programs in one file, which is started by the name of one of them."""
BOOT_DIR = "/lib/modules/boot"
"""Where an initrd has drivers that are modules, named so that they sort in loading order."""
_CPIO_S = 60
_PRIVATE_FOLDERS = {"root", ".ssh"}
_LOADER = "/lib64/ld-linux-x86-64.so.2"
_LIBRARY = re.compile(r"(?:=>\s*)?(/\S+)\s+\(0x")

# Programs with shared libraries, as found on the host, and where they go.
_PROGRAMS = {
    "bash": "/bin/bash",
    "dropbear": "/sbin/dropbear",
    "kmod": "/bin/kmod",
}
_KMOD_NAMES = ("insmod", "rmmod", "lsmod", "modprobe", "modinfo", "depmod")

RC_BEGINNING = f"""#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
export PATH=/bin:/sbin
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
lacks() {{
	echo "{LACKS_LINE}$*"
}}
for module in {BOOT_DIR}/*.ko; do
	[ ! -e "$module" ] || insmod "$module" || lacks "it does not load its driver ${{module##*/}}"
done
[ -d /sys/kernel/livepatch ] || lacks "there is no /sys/kernel/livepatch (CONFIG_LIVEPATCH)"
cd /root
export HOME=/root
case "$(cat /sys/module/module/parameters/sig_enforce 2>/dev/null) $(cat /proc/cmdline)" in
*{SIGNED_WORD}*) ;;
Y*) lacks "it loads no module that is not signed (CONFIG_MODULE_SIG_FORCE, module.sig_enforce=1)" ;;
esac
ip link set lo up
"""

# The driver makes the ports a moment after it has found QEMU's device.
_PORTS_UP = f"[ -c {_PORT} ] && [ -c {_SSH_LINE} ]"
DEVICES_UP = f"""\
ip link set eth0 up || lacks "it found no network card (CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_NET)"
ip addr add {GUEST_ADDRESS}/24 dev eth0
tries=0
until {_PORTS_UP} || [ $tries -ge 200 ]; do
	tries=$((tries + 1))
	usleep 10000
done
{_PORTS_UP} || lacks "it found no port for the agent (CONFIG_VIRTIO_CONSOLE)"
"""
AGENT_ON_LINE = f"klp-agent stay <>{_PORT} >&0 &"


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a client reaches a server in the guest, and the server's command line.

    One client may come through the virtio port ``port``.
    """

    place: str
    command: tuple[str, ...]
    port: str | None = None

    def start(self, *, output: str = "/dev/null") -> str:
        """Return the line of a script that starts it; its process id is written to ``output``."""
        port = f"-p {self.port} " if self.port is not None else ""
        return f"klp-standby {port}{self.place} /dev/kmsg {' '.join(self.command)} >{output}"


AGENT_SERVER = Server(place=_AGENT_PLACE, command=("klp-agent",))
SSH_SERVER = Server(
    place=_SSH_PLACE,
    command=("dropbear", "-i", "-s", "-k", "-I", "0", "-r", "/etc/dropbear/host_key"),
    port=_SSH_LINE,
)


_RC = f"""{RC_BEGINNING}{DEVICES_UP}\
{AGENT_ON_LINE}
{AGENT_SERVER.start()}
{SSH_SERVER.start()}
echo "{READY_LINE}"
"""

RC_PLACE = "/etc/rc"
# The port is opened before the guest reports that it is ready: a port that nobody has open loses
# its input. A subshell opens it, since it would else become the terminal of this shell.
RC_WITHOUT_NETWORK = f"""{RC_BEGINNING}\
(
	exec 3<>/dev/ttyS1
	stty raw -echo clocal <&3
	klp-agent report-taken <&3 >&3 3>&- &
)
echo "{READY_LINE}"
"""
"""The init script, at RC_PLACE, of a guest whose agent waits at its second serial port."""

_TEXT_FILES = {
    "/etc/inittab": "::sysinit:/etc/rc\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/shells": "/bin/sh\n/bin/bash\n",
    "/etc/profile": "export PATH=/bin:/sbin\nexport PS1='klp-guest# '\n",
}

_FOLDERS = (
    *("bin", "sbin", "usr/bin", "usr/sbin", "lib64", "lib/modules/klp", "etc/dropbear"),
    *("proc", "sys", "dev", "run", "tmp", "root/.ssh"),
)


def build_base(store: Store, *, deadline: Deadline) -> Path:
    """Return the cached cpio archive with everything but keys.

    Raises MissingTool when the host lacks one of the programs, HarnessError when cpio fails.
    """
    programs = build_programs(store, deadline=deadline)
    busybox = _static_busybox()
    files: dict[str, Path] = {"/bin/busybox": busybox}
    files[ALL_PROGRAMS] = programs / Path(ALL_PROGRAMS).name
    names = sorted(path.name for path in programs.glob("klp-*") if path.is_symlink())
    for name, target in _PROGRAMS.items():
        files |= with_libraries(Path(find_program(name)), target, deadline=deadline)
    key = _digest(files, names)

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder, prefix="root-") as name:
            root = Path(name)
            _lay_out(root, files, names)
            _archive(root, folder / "base.cpio", deadline=deadline)

    return store.obtain("initramfs", key, fill, deadline=deadline) / "base.cpio"


def build_initrd(
    base: Path,
    keys: RunKeys,
    target: Path,
    *,
    extra_files: Mapping[str, Path] = MappingProxyType({}),
    texts: Mapping[str, str] = MappingProxyType({}),
    deadline: Deadline,
) -> None:
    """Write the initrd of one run to ``target``: the base, this run's keys, and ``extra_files``.

    ``texts`` are files with that content, by their paths; like ``extra_files`` they replace others.
    """
    private = {
        "etc/dropbear/host_key": keys.host_key.read_bytes(),
        "root/.ssh/authorized_keys": f"{keys.client_public}\n".encode(),
    }
    extend_initrd(base, extra_files, target, private=private, texts=texts, deadline=deadline)


def extend_initrd(
    initrd: Path,
    files: Mapping[str, Path],
    target: Path,
    *,
    private: Mapping[str, bytes] = MappingProxyType({}),
    texts: Mapping[str, str] = MappingProxyType({}),
    deadline: Deadline,
) -> None:
    """Write to ``target`` an initrd that has more files, by their paths in the guest.

    There all may read and execute the ``files`` and ``texts``; ``private`` has what root alone may
    read.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="more-") as name:
        root = Path(name, "root")
        root.mkdir()
        _copy(root, files)
        for name_there, text in texts.items():
            place = root / name_there.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            place.chmod(0o755)
        for path, content in private.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(0o600)
        part = Path(name, "part.cpio")
        _archive(root, part, deadline=deadline)
        aside = Path(name, "whole.cpio")
        with aside.open("wb") as whole:
            for piece in (initrd, part):
                with piece.open("rb") as data:
                    shutil.copyfileobj(data, whole)
        aside.chmod(0o600)
        aside.rename(target)


def _static_busybox() -> Path:
    path = Path(find_program("busybox"))
    if not is_static(path):
        raise MissingTool(
            f"{path} is linked dynamically; the guest needs a static busybox",
            hint="install busybox-static (Debian, Ubuntu) or your distribution's static build",
        )
    return path


def with_libraries(program: Path, target: str, *, deadline: Deadline) -> dict[str, Path]:
    """Return a program and every shared library that the dynamic loader finds for it."""
    listed = run([_LOADER, "--list", program], deadline=deadline.within(10), check=False)
    if listed.returncode != 0:
        raise HarnessError(
            f"it cannot be found out which libraries {program} needs",
            details=tuple(listed.stderr.splitlines()),
        )
    files = {target: program.resolve(), _LOADER: Path(_LOADER).resolve()}
    for match in _LIBRARY.finditer(listed.stdout):
        files[match[1]] = Path(match[1]).resolve()
    return files


def _digest(files: Mapping[str, Path], names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for target, source in sorted(files.items()):
        digest.update(target.encode() + b"\0")
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    texts = (_RC, sorted(_TEXT_FILES.items()), _FOLDERS, _KMOD_NAMES, names)
    digest.update(repr(texts).encode())
    return digest.hexdigest()[:16]


def _lay_out(root: Path, files: Mapping[str, Path], names: Sequence[str]) -> None:
    """Lay the root folder out; ``names`` are those of the guest programs."""
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    _copy(root, files)
    for target, text in _TEXT_FILES.items():
        (root / target.lstrip("/")).write_text(text)
    (root / RC_PLACE.lstrip("/")).write_text(_RC)
    (root / RC_PLACE.lstrip("/")).chmod(0o755)
    for name in _KMOD_NAMES:
        (root / "sbin" / name).symlink_to("/bin/kmod")
    for name in names:
        (root / "bin" / name).symlink_to(Path(ALL_PROGRAMS).name)
    listed = run([files["/bin/busybox"], "--list"], deadline=Deadline.after(10)).stdout
    for applet in listed.split():
        link = root / "bin" / applet
        if not link.exists() and applet not in _KMOD_NAMES:
            link.symlink_to("/bin/busybox")
    (root / "init").symlink_to("/bin/busybox")


def _copy(root: Path, files: Mapping[str, Path]) -> None:
    for target, source in files.items():
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        place.chmod(0o755)


def _archive(root: Path, target: Path, *, deadline: Deadline) -> None:
    names = []
    for path in sorted(root.rglob("*")):
        names.append(f"{path.relative_to(root)}\n")
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700 if path.name in _PRIVATE_FOLDERS else 0o755)
    run(
        [
            *("cpio", "--create", "--format=newc", "--owner=0:0", "--reproducible", "--quiet"),
            f"--file={target.resolve()}",
        ],
        stdin="".join(names),
        cwd=root,
        deadline=deadline.within(_CPIO_S),
    )
