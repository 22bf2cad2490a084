# SPDX-License-Identifier: GPL-2.0-only
"""What other times are divided by, so that a budget holds on a slow machine as on a fast one."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.figures import side
from harness.deadline import Deadline
from harness.resources import Resource, resource_dir
from harness.vm.guest.session import Fresh
from harness.vm.kernel.module import build_modules, copy_sources

if TYPE_CHECKING:
    from benchmarks.figures import Side
    from benchmarks.place import Bench
    from harness.vm.kernel.kernel import Kernel

_BUILD_S = 900.0


def boots(bench: Bench, *, runs: int) -> Side:
    """Return how long a guest takes to boot, from the start of QEMU to the agent's first answer."""
    seconds = []
    with bench.session() as session:
        for _ in range(runs):
            start_s = time.monotonic()
            with session.guest(bench.kernel, name="start", fresh=Fresh.BOOT):
                seconds.append(time.monotonic() - start_s)
    return side("a boot", "s", seconds)


def modules_build(kernel: Kernel) -> Side:
    """Return how long all sample modules take to build for a kernel, from nothing, on all cores."""
    source = resource_dir(Resource.LIVEPATCH_MODULES)
    with TemporaryDirectory(prefix="klp-bench-") as name:
        folder = Path(name)
        copy_sources(source, folder)
        start_s = time.monotonic()
        build_modules(
            kernel,
            folder,
            what=source.name,
            log_path=folder / "make.log",
            deadline=Deadline.after(_BUILD_S),
        )
        return side("the sample modules", "s", [time.monotonic() - start_s])
