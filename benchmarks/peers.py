# SPDX-License-Identifier: GPL-2.0-only
"""Comparison with virtme-ng, on the same kernel with the options that it needs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from filelock import FileLock

from benchmarks.figures import Bound, Budget, ratio, side
from harness.deadline import Deadline
from harness.errors import CommandFailed, CommandTimeout, HarnessError, MissingTool
from harness.vm.guest.session import Fresh
from harness.vm.host.accel import Accel
from harness.vm.host.lookup import program
from harness.vm.host.process import command_line, run
from harness.vm.kernel.build import KernelRequest, obtain_kernel

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figures import Figure
    from benchmarks.place import Bench
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

PEER_RATIO = 1 / 20
FRAGMENT = "virtme-ng"
REQUIREMENT = "virtme-ng>=1.42"

_INSTALL_S = 300.0
_BUILD_S = 3600.0
_RUN_S = 120.0


def virtme_ng(
    bench: Bench, spec: str, store: Store, *, runs: int, progress: Progress
) -> list[Figure]:
    """Measure restored guests that run `uname -r`, others until SSH, each by turns with virtme-ng.

    Raises HarnessError when virtme-ng cannot be installed or does not boot its kernel, MissingTool
    when this machine lacks a program that its guests need.
    """
    if program("udevadm")() is None:
        # They mount the root folder of this machine, and udev has to name the ports for output.
        raise MissingTool(
            "virtme-ng's guests need udev, which this machine lacks",
            hint="Debian, Ubuntu: apt-get install udev",
        )
    progress.stage("virtme-ng in an environment of its own")
    vng = install(bench.cache / "peers" / "virtme-ng")
    kernel = obtain_kernel(
        KernelRequest(spec=spec, fragments=(*KernelRequest(spec=spec).fragments, FRAGMENT)),
        store=store,
        deadline=Deadline.after(_BUILD_S),
        progress=progress,
    )
    # It writes beside the kernel that it boots, which must not be in the cache.
    image = bench.folder / "virtme-ng" / "bzImage"
    image.parent.mkdir()
    shutil.copy(kernel.image, image)
    ran: list[float] = []
    reached: list[float] = []
    theirs: list[float] = []
    progress.stage("guests of both")
    with bench.session() as session:
        for ssh in (False, True):
            # One template after the other: the spare guest is of the one that was used last.
            with session.guest(bench.kernel, name="peer-warm-up", fresh=Fresh.SNAPSHOT, ssh=ssh):
                pass
            for _ in range(runs):
                start = time.monotonic()
                with session.guest(
                    bench.kernel, name="peer", fresh=Fresh.SNAPSHOT, ssh=ssh
                ) as machine:
                    if ssh:
                        machine.ssh()
                        reached.append(time.monotonic() - start)
                    else:
                        said = machine.run(["uname", "-r"]).stdout.strip()
                        assert said == bench.kernel.version
                        ran.append(time.monotonic() - start)
                theirs.append(_uname(vng, image, kernel.version, bench))
    return [
        ratio(
            f"{name}-virtme-ng",
            f"{what} against `vng -- uname -r`",
            side("restored", "s", ours),
            side("virtme-ng", "s", theirs),
            Budget(bound=Bound.AT_MOST, value=PEER_RATIO),
        )
        for name, what, ours in (
            ("guest-command", "`uname -r` in a restored guest", ran),
            ("guest-start", "a restored guest to SSH, of a template with SSH", reached),
        )
    ]


def install(folder: Path) -> Path:
    """Return the program ``vng``, installed once in an environment of its own.

    Raises HarnessError when pip cannot install it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    vng, done = folder / "bin" / "vng", folder / "installed"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            deadline = Deadline.after(_INSTALL_S)
            try:
                run([sys.executable, "-m", "venv", "--clear", folder], deadline=deadline)
                python = str(folder / "bin" / "python")
                pip = [python, "-m", "pip", "install", "--quiet", REQUIREMENT]
                run(pip, deadline=deadline)
            except (CommandFailed, CommandTimeout) as error:
                raise HarnessError(
                    "virtme-ng cannot be installed",
                    hint="--peers needs PyPI",
                    details=error.details,
                ) from error
            done.touch()
    return vng


def _uname(vng: Path, image: Path, version: str, bench: Bench) -> float:
    """Return how many seconds a guest takes that boots, prints its release and ends."""
    command = [
        *(str(vng), "--run", str(image), "--force-9p", "--disable-microvm"),
        *(["--disable-kvm"] if bench.settings.accel is Accel.TCG else []),
        *("--cpus", "2", "--memory", "512M", "--cwd", "/", "--", "uname", "-r"),
    ]
    # It calls programs of its own by name.
    env = {**os.environ, "PATH": f"{vng.parent}:{os.environ['PATH']}"}
    ran = run(command, deadline=Deadline.after(_RUN_S), env=env, check=False)
    if version not in ran.stdout:
        raise HarnessError(
            f"virtme-ng did not boot its kernel: vng ended with {ran.returncode} and did not print "
            f"{version}",
            hint="add --verbose to this command to see the guest's console: "
            + command_line(command),
            details=tuple((ran.stdout + ran.stderr).splitlines()[-10:]),
        )
    return ran.seconds
