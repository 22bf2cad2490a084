# SPDX-License-Identifier: GPL-2.0-only
"""The correct livepatches of which mutants are made by default."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter

from harness.errors import UsageError
from harness.tools.verify import VerifyRequest
from harness.vm.elf.livepatch_relocation import LivepatchRelocation, with_livepatch_relocation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "corpus"
CHECKS = CORPUS / "checks"
SOURCES = CORPUS / "modules"
_MANIFEST = CORPUS / "mutants.toml"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A correct livepatch of which mutants are made, with its request for `verify`.

    ``equivalent`` has a proof for each mutant that no check can notice, by kind and place.
    """

    request: VerifyRequest
    equivalent: Mapping[str, str] = field(default_factory=dict)


class Relocation(BaseModel):
    """A livepatch relocation that the module is given; see LivepatchRelocation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    section: str
    symbol: str
    object: str
    stands_for: str


class Entry(BaseModel):
    """An entry of mutants.toml, which says what the fields mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    targets: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    relocation: Relocation | None = None
    equivalent: dict[str, str] = {}

    def subject(self, name: str, modules: Mapping[str, Path], folder: Path) -> Subject:
        """Return the subject. ``modules`` are those of the samples and the corpus, by name."""
        module = modules[name]
        if self.relocation is not None:
            wanted = LivepatchRelocation(**self.relocation.model_dump())
            module = folder / f"{name}.ko"
            module.write_bytes(with_livepatch_relocation(modules[name].read_bytes(), wanted))
        request = VerifyRequest(
            module=module,
            targets=tuple(modules[target] for target in self.targets),
            replaces=tuple(modules[old] for old in self.replaces),
            check=CHECKS / self.check,
        )
        return Subject(request=request, equivalent=self.equivalent)


def read_manifest() -> dict[str, Entry]:
    """Return all entries of mutants.toml by the names of their modules."""
    entries = tomllib.loads(_MANIFEST.read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, Entry]).validate_python(entries)


def subjects_of(
    names: Sequence[str], modules: Mapping[str, Path], folder: Path
) -> tuple[Subject, ...]:
    """Return the subjects of these names, or all; modules that are changed go to ``folder``.

    Raises UsageError for an unknown name.
    """
    known = read_manifest()
    for name in names:
        if name not in known:
            raise UsageError(
                f"{name} is not in tests/corpus/mutants.toml",
                hint=f"modules there: {', '.join(known)}",
            )
    return tuple(known[name].subject(name, modules, folder) for name in names or known)
