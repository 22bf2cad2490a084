# SPDX-License-Identifier: GPL-2.0-only
"""The versions that have to be the same on all machines of a cluster."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path

import harness

_PACKAGE = Path(harness.__file__).resolve().parent
_DATA = "_data"
_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Versions of one process. ``code`` is a digest of the sources of klp-harness."""

    harness: str
    code: str
    python: str
    distributed: str

    def difference(self, other: Identity) -> str | None:
        """Return a phrase for the first version that differs in another process, or None."""
        for what, mine, its in (
            ("Python", self.python, other.python),
            ("distributed", self.distributed, other.distributed),
            ("klp-harness", self.harness, other.harness),
        ):
            if mine != its:
                return f"{what} {its} instead of {mine}"
        if self.code != other.code:
            return (
                f"another klp-harness {other.harness}, of sources {other.code[:_SHOWN]} instead of "
                f"{self.code[:_SHOWN]}"
            )
        return None


@functools.cache
def own_identity() -> Identity:
    """Return the versions of this process."""
    return Identity(
        harness=harness.__version__,
        code=digest_of_code(_PACKAGE),
        # All releases of a Python version read each other's pickles.
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        distributed=importlib.metadata.version("distributed"),
    )


def digest_of_code(package: Path) -> str:
    """Return a digest of all Python sources of a package, without the data that travels in it."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] != _DATA:
            digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
