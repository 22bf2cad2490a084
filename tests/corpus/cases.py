# SPDX-License-Identifier: GPL-2.0-only
"""The corpus: livepatches that are safe, livepatches that are not, and the codes that show it."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter

from harness.tools.verify import Code, VerifyRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parent
MODULES = FOLDER / "modules"
CHECKS = FOLDER / "checks"
_LICENCE = b"license=GPL\0"


class Judgement(StrEnum):
    """What a patch module is."""

    GOOD = "good"
    BAD = "bad"
    WARNED = "warned"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """How much of the corpus is run: a few, each in the scene that shows it, or all in all."""

    SAMPLE = "sample"
    SCENES = "scenes"
    ALL = "all"


class Entry(BaseModel):
    """One entry of corpus.toml, which says what the fields mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdict: Judgement
    codes: frozenset[Code] = frozenset()
    scene: str = "idle"
    targets: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    check: str | None = None
    debug: bool = False
    made_of: str | None = None
    licence: str | None = None
    sample: bool = False

    def request(
        self, name: str, modules: Mapping[str, Path], scope: Scope, scratch: Path
    ) -> VerifyRequest:
        """Return what to verify. ``modules`` are the corpus and the samples, by name."""
        # A check of the file needs a scene all the same.
        scenes = () if scope is Scope.ALL else ("idle" if self.scene == "host" else self.scene,)
        return VerifyRequest(
            module=self._module(name, modules, scratch),
            targets=tuple(modules[target] for target in self.targets),
            replaces=tuple(modules[old] for old in self.replaces),
            check=CHECKS / self.check if self.check is not None else None,
            scenes=scenes,
        )

    def _module(self, name: str, modules: Mapping[str, Path], scratch: Path) -> Path:
        if self.made_of is None:
            return modules[name]
        content = modules[self.made_of].read_bytes()
        licence = f"license={self.licence}".encode() + b"\0"
        assert content.count(_LICENCE) == 1
        assert len(licence) == len(_LICENCE)
        path = scratch / f"{name}.ko"
        path.write_bytes(content.replace(_LICENCE, licence))
        return path


def read_corpus() -> dict[str, Entry]:
    """Return all entries by the names of their modules."""
    content = tomllib.loads((FOLDER / "corpus.toml").read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, Entry]).validate_python(content)
