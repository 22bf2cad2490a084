# SPDX-License-Identifier: GPL-2.0-only
"""Where a guest is found, for another process of the same user than the one that runs it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Address:
    """``port`` on this host's loopback leads to the guest's SSH, ``host_public`` is its key.

    ``keys`` is the folder with the run's private key, ``folder`` that with the guest's logs, and
    ``qemu`` the process id of the QEMU that runs it.
    """

    port: int
    host_public: str
    keys: str
    cpus: int
    time_scale: float
    folder: str
    qemu: int

    def write(self, path: Path) -> None:
        """Write it to a new file that the user alone can read; raises OSError."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)

    @classmethod
    def read(cls, path: Path) -> Address:
        """Return what was written there; raises OSError, and ValueError for another content."""
        return cls(**json.loads(path.read_text()))
