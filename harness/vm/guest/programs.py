# SPDX-License-Identifier: GPL-2.0-only
"""The guest programs: one static binary, built on the host once for each state of its sources."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import CommandFailed, HarnessError
from harness.resources import Resource, resource_dir
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.host.cache import Store

_BUILD_S = 120


def build_programs(store: Store, *, deadline: Deadline) -> Path:
    """Return a folder with ``klp-programs``, and a link to it for each ``klp_*.c`` of the sources.

    Raises HarnessError when they do not compile.
    """
    source_dir = resource_dir(Resource.GUEST_PROGRAMS)
    compiler = run(["gcc", "--version"], deadline=Deadline.after(10)).stdout.splitlines()[0]
    digest = hashlib.sha256(compiler.encode())
    for path in sorted(source_dir.iterdir()):
        if path.suffix in {".c", ".h"} or path.name == "Makefile":
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")

    def fill(folder: Path) -> None:
        try:
            run(
                ["make", "-C", source_dir, f"OUT={folder}"],
                deadline=deadline.within(_BUILD_S),
            )
        except CommandFailed as error:
            raise HarnessError(
                f"the guest programs in {source_dir} do not compile",
                hint="`klp-harness doctor` shows whether a static libc and gcc are installed",
                details=error.details,
            ) from error

    return store.obtain("guest-programs", digest.hexdigest()[:16], fill, deadline=deadline)
