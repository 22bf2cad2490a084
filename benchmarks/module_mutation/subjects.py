# SPDX-License-Identifier: GPL-2.0-only
"""The correct livepatches of which mutants are made when nobody names another."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter

from harness.errors import UsageError
from harness.resources import Resource, resource_dir
from harness.tools.verify import VerifyRequest
from harness.vm.elf.relocation import LivepatchRelocation, with_livepatch_relocation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MANIFEST = "mutants.toml"
CHECKS = "checks"
MODULES = "modules"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A correct livepatch of which mutants are made, as `verify` is asked of it.

    ``equivalent`` has a proof for each mutant that nobody can see, by its kind and place.
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
    """One entry of the manifest, which says what the fields mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    targets: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    relocation: Relocation | None = None
    equivalent: dict[str, str] = {}

    def subject(self, name: str, modules: Mapping[str, Path], folder: Path) -> Subject:
        """Return the subject. ``modules`` are samples and corpus, by name."""
        module = modules[name]
        if self.relocation is not None:
            wanted = LivepatchRelocation(**self.relocation.model_dump())
            module = folder / f"{name}.ko"
            module.write_bytes(with_livepatch_relocation(modules[name].read_bytes(), wanted))
        request = VerifyRequest(
            module=module,
            targets=tuple(modules[target] for target in self.targets),
            replaces=tuple(modules[old] for old in self.replaces),
            check=resource_dir(Resource.CORPUS) / CHECKS / self.check,
        )
        return Subject(request=request, equivalent=self.equivalent)


def corpus_sources() -> Path:
    """Return the folder with the sources of the corpus's modules."""
    return resource_dir(Resource.CORPUS) / MODULES


def read_manifest() -> dict[str, Entry]:
    """Return all entries by the names of their modules."""
    text = (resource_dir(Resource.CORPUS) / MANIFEST).read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Entry]).validate_python(tomllib.loads(text))


def subjects_of(
    names: Sequence[str], modules: Mapping[str, Path], folder: Path
) -> tuple[Subject, ...]:
    """Return the subjects of these names, all for none; files that are made go to ``folder``.

    Raises UsageError for a name that is no subject.
    """
    known = read_manifest()
    for name in names:
        if name not in known:
            raise UsageError(
                f"{name} is no module of which mutants are made by themselves",
                hint=f"there are {', '.join(known)}",
            )
    return tuple(known[name].subject(name, modules, folder) for name in names or known)
