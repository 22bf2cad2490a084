# SPDX-License-Identifier: GPL-2.0-only
"""Boots that failed, shared by the processes of a run: not every test waits for such a kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BootFailed, UsageError

if TYPE_CHECKING:
    from harness.errors import KernelVerdict, KlpError

ROOT_FAULT = "its root file system "
"""Begins what the guest says it lacks when that is the fault of a root of the user's."""
_NAME = "failures.json"
# The first failure may be chance; a kernel that never boots costs a deadline each time.
MOST_BOOTS = 2


class BootFailures:
    """The boots of one template that ended in a verdict on the kernel. Callers hold its lock."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def check(self) -> None:
        """Raise BootFailed when so many have failed that another one would show nothing new."""
        known = self._read()
        if len(known) >= MOST_BOOTS:
            raise BootFailed(
                f"this kernel failed to boot {len(known)} times in this run, and was not booted "
                f"again: {known[0]['message']}",
                artefacts=Path(known[0]["artefacts"]) if known[0]["artefacts"] else None,
            )

    def add(self, error: KernelVerdict) -> None:
        """Record one more."""
        artefacts = str(error.artefacts) if error.artefacts is not None else ""
        known = [*self._read(), {"message": error.message, "artefacts": artefacts}]
        self._path.write_text(json.dumps(known))

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        known: list[dict[str, str]] = json.loads(self._path.read_text())
        return known


def of_what_lacks(what: str) -> KlpError:
    """Return the error for what a guest says that it lacks, after its kernel has booted."""
    if what.startswith(ROOT_FAULT):
        return UsageError(
            f"the guest cannot be used: {what}",
            hint="--rootfs takes the root file system of a distribution for x86_64",
        )
    return BootFailed(
        f"the kernel boots and cannot be tested: {what}",
        hint="docs/your-kernel.md lists what a kernel must have",
    )
