# SPDX-License-Identifier: GPL-2.0-only
"""klp-verify.toml: the patches and kernels of a matrix, and how each patch is verified.

A key has the name of the option that it stands for. A patch has the values of [defaults], then
those of the [settings.NAME] that it inherits, then its own: a later value replaces an earlier one.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from harness.errors import UsageError
from harness.inputs import MIB, read_file, shown, user_path
from harness.tools.verify.matrix.toml_lines import key_lines, line_of
from harness.tools.verify.request import LoadProfile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.tools.verify.matrix.toml_lines import Place

DEFAULTS, SETTINGS, PATCH, KERNEL = "defaults", "settings", "patch", "kernel"
INHERITS = "inherits"
_WHAT = "the manifest"


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
Loads = Annotated[tuple[LoadProfile, ...], BeforeValidator(_one_or_more)]


class _Model(BaseModel):
    # Of bool and str pydantic makes numbers otherwise: cycles = true is a mistake.
    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(_Model):
    """How a patch is verified. None: not given here."""

    target: Words | None = None
    replaces: Words | None = None
    param: dict[str, str] | None = None
    check: str | None = None
    check_timeout: Annotated[float | None, Field(alias="check-timeout", ge=1)] = None
    load: Loads | None = None
    scene: Words | None = None
    within: Annotated[float | None, Field(ge=1)] = None
    cycles: Annotated[int | None, Field(ge=1)] = None
    thorough: bool | None = None
    kernel: Words | None = None
    inherits: str | None = None


class PatchEntry(Settings):
    """One patch, or with a glob in ``module`` or ``source`` one for each file that it names."""

    module: str | None = None
    source: str | None = None
    name: str | None = None
    exclude: Words = ()


class KernelEntry(_Model):
    """One kernel. ``name`` is what patches and the table call it; default: the spec."""

    spec: str
    name: str | None = None
    kernel_config: Annotated[Words, Field(alias="kernel-config")] = ()
    patch: Words = ()
    sha256: str | None = None


class _File(_Model):
    kernel: tuple[KernelEntry, ...] = ()
    defaults: Settings = Settings()
    settings: dict[str, Settings] = {}
    patch: tuple[PatchEntry, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest that was read. Paths in it are relative to ``folder``."""

    path: Path
    kernels: tuple[KernelEntry, ...]
    patches: tuple[PatchEntry, ...]
    defaults: Settings
    settings: Mapping[str, Settings]
    lines: Mapping[Place, int]

    @property
    def folder(self) -> Path:
        """The folder that its paths are relative to."""
        return self.path.absolute().parent

    def wrong(self, place: Place, why: str, hint: str | None = None) -> UsageError:
        """Return the error for what is wrong at a place: it names file, line and key."""
        return _wrong(self.path, self.lines, place, why, hint)

    def merged(self, number: int) -> tuple[dict[str, Any], dict[str, Place]]:
        """Return all values of a patch by their keys, and the place that each is from.

        Raises UsageError for settings that are not there, or inherit each other in a circle.
        """
        values: dict[str, Any] = {}
        places: dict[str, Place] = {}
        for place, given in self._sources(number):
            for name in given.model_fields_set:
                values[name] = getattr(given, name)
                places[name] = (*place, key_of(name))
        return values, places

    def _sources(self, number: int) -> list[tuple[Place, Settings]]:
        """Return where a patch's values are from, the weakest first."""
        place: Place = (PATCH, number)
        given: Settings = self.patches[number]
        found = [(place, given)]
        seen: list[str] = []
        while given.inherits is not None:
            name = given.inherits
            if name in seen:
                circle = " -> ".join([*seen[seen.index(name) :], name])
                raise self.wrong((*place, INHERITS), f"settings inherit each other: {circle}")
            if name not in self.settings:
                known = ", ".join(self.settings) or "none"
                raise self.wrong(
                    (*place, INHERITS),
                    f"there is no [{SETTINGS}.{shown(name)}]",
                    f"the settings of this file: {known}",
                )
            seen.append(name)
            place, given = (SETTINGS, name), self.settings[name]
            found.append((place, given))
        found.append(((DEFAULTS,), self.defaults))
        return found[::-1]


def key_of(field: str) -> str:
    """Return the key of a field in the file."""
    return field.replace("_", "-")


def read_manifest(named: Path) -> Manifest:
    """Read a manifest; raises UsageError that names file, line and key of the first mistake."""
    path = user_path(named, _WHAT)
    try:
        text = read_file(path, _WHAT, at_most=MIB).decode()
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown(path)} is no TOML: {shown(error)}") from error
    lines = key_lines(text)
    try:
        read = _File.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        raise _invalid(path, lines, first["loc"], first["type"], first["msg"]) from error
    manifest = Manifest(
        path=path,
        kernels=read.kernel,
        patches=read.patch,
        defaults=read.defaults,
        settings=read.settings,
        lines=lines,
    )
    if not read.patch:
        raise UsageError(f"{shown(path)} names no patch", hint="[[patch]] with module = ...")
    if read.defaults.inherits is not None:
        raise manifest.wrong((DEFAULTS, INHERITS), "the defaults inherit nothing")
    for name, each in read.settings.items():
        if each.inherits is not None and each.inherits not in read.settings:
            raise manifest.wrong(
                (SETTINGS, name, INHERITS), f"there is no [{SETTINGS}.{shown(each.inherits)}]"
            )
    return manifest


def _invalid(
    path: Path, lines: Mapping[Place, int], place: Place, kind: str, message: str
) -> UsageError:
    if kind == "extra_forbidden":
        known = ", ".join(_keys_beside(place))
        return _wrong(path, lines, place, "there is no such key", f"known here: {known}")
    if kind == "missing":
        return _wrong(path, lines, place, "this key is missing")
    return _wrong(path, lines, place, message[:1].lower() + message[1:])


def _keys_beside(place: Place) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        KERNEL: KernelEntry,
        PATCH: PatchEntry,
        DEFAULTS: Settings,
        SETTINGS: Settings,
    }
    model = models.get(str(place[0]), _File) if len(place) > 1 else _File
    return [key_of(name) for name in model.model_fields]


def _wrong(
    path: Path, lines: Mapping[Place, int], place: Place, why: str, hint: str | None = None
) -> UsageError:
    line = line_of(lines, place)
    where = f"{shown(path)}:{line}" if line is not None else shown(path)
    words = [str(part + 1) if isinstance(part, int) else shown(part) for part in place]
    return UsageError(f"{where}: {'.'.join(words)}: {why}", hint=hint)
