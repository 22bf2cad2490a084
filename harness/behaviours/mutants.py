# SPDX-License-Identifier: GPL-2.0-only
"""The kernel mutants: patches with a header that says what each breaks.

docs/mutants.md has the names of the header's fields. A patch of a user's own needs no header.

Where the code of a later series differs, a port is in a folder named after the first series that
it is written for, under the same name: ``6.12/no-taint.patch`` beside ``no-taint.patch``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.vm.kernel.patch_file import header_fields, read_patch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from harness.vm.kernel.patch_file import PatchFile

_NAMES = ("Broken", "Breaks", "Commit", "Kernels", "Config", "Shows", "Equivalent")
_RULE = re.compile(r"[A-Z]{2}-\d\d\Z")
_COMMIT = re.compile(r"[0-9a-f]{8,40}\Z")
_ALWAYS = "always"
_SOMETIMES = "sometimes"
_SUFFIX = ".patch"
_SERIES = re.compile(r"(\d+)\.(\d+)\Z")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A patch that breaks a kernel.

    ``broken`` says what the kernel then does, ``breaks`` are ids of rules, ``kernels`` the series
    that it is written for (empty: unknown), ``config`` the fragments without which it breaks
    nothing, ``always`` whether one run of the tests has to show it, ``equivalent`` is the proof
    that no test can see it. ``ports`` break other series in the same way.
    """

    name: str
    path: Path
    patch: PatchFile
    broken: str = ""
    breaks: tuple[str, ...] = ()
    commit: str | None = None
    kernels: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    always: bool = True
    equivalent: str | None = None
    ports: tuple[Mutant, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """Return all series that it or a port is written for."""
        return tuple(name for mutant in (self, *self.ports) for name in mutant.kernels)

    @property
    def diff(self) -> str:
        """Return the patch without its header."""
        lines = self.patch.text.splitlines(keepends=True)
        start = next(i for i, line in enumerate(lines) if line.startswith(("--- ", "diff ")))
        return "".join(lines[start:])


def load_mutants(folder: Path) -> tuple[Mutant, ...]:
    """Return the mutants of a folder, by name, each with its ports.

    Raises UsageError for a folder without patches, for a port that does not name its folder's
    series, and for two files of one name and series; and as `read_mutant` does.
    """
    found: dict[str, Mutant] = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        mutant = read_mutant(path)
        found[mutant.name] = mutant
    for inner in _series_folders(folder):
        for path in sorted(inner.glob(f"*{_SUFFIX}")):
            port = read_mutant(path)
            first = found.get(port.name)
            _check_port(port, first, inner.name)
            found[port.name] = replace(first, ports=(*first.ports, port)) if first else port
    if not found:
        raise UsageError(f"there are no patches (*{_SUFFIX}) in {folder}")
    return tuple(found[name] for name in sorted(found))


def read_mutant(path: Path) -> Mutant:
    """Read a patch and its header. Raises UsageError, PatchDoesNotApply for what is no patch."""
    patch = read_patch(path)
    fields = header_fields(patch.text, _NAMES)
    breaks = tuple(fields.get("Breaks", "").split())
    wrong = [rule for rule in breaks if not _RULE.match(rule)]
    if wrong:
        raise UsageError(f"{path.name}: Breaks names {wrong[0]}, which is no rule's id (TR-01)")
    commit = fields.get("Commit")
    if commit is not None and not _COMMIT.match(commit):
        raise UsageError(f"{path.name}: Commit is {commit}, which is no commit's number")
    shows = fields.get("Shows", _ALWAYS)
    if shows not in (_ALWAYS, _SOMETIMES):
        raise UsageError(f"{path.name}: Shows is {shows}; it can be {_ALWAYS} or {_SOMETIMES}")
    return Mutant(
        name=path.name.removesuffix(_SUFFIX),
        path=path.absolute(),
        patch=patch,
        broken=fields.get("Broken", ""),
        breaks=breaks,
        commit=commit,
        kernels=tuple(fields.get("Kernels", "").split()),
        config=tuple(fields.get("Config", "").split()),
        always=shows == _ALWAYS,
        equivalent=fields.get("Equivalent"),
    )


def choose(mutants: Sequence[Mutant], names: Iterable[str]) -> tuple[Mutant, ...]:
    """Return the mutants of these names, in that order. Raises UsageError for a name unknown."""
    known = {mutant.name: mutant for mutant in mutants}
    chosen: dict[str, Mutant] = {}
    for name in names:
        mutant = known.get(name.removesuffix(_SUFFIX))
        if mutant is None:
            otherwise = "`klp-harness mutants list` names them; --patch takes a file"
            raise UsageError(
                f"there is no kernel mutant {name}", hint=_near(name, known) or otherwise
            )
        chosen[mutant.name] = mutant
    return tuple(chosen.values())


def check_rules(mutants: Iterable[Mutant], known: Collection[str]) -> None:
    """Raise UsageError for a mutant that breaks a rule that there is not."""
    for mutant in mutants:
        for rule in mutant.breaks:
            if rule not in known:
                raise UsageError(
                    f"{mutant.path.name}: Breaks names {rule}, and there is no such rule",
                    hint=_near(rule, known) or "`klp-harness behaviours` names them",
                )


def written_for(mutants: Iterable[Mutant], series: str) -> tuple[Mutant, ...]:
    """Return those that are written for a series such as ``6.1``, or do not say."""
    return tuple(m for m in mutants if not m.series or series in m.series)


def fitted(mutants: Iterable[Mutant], series: str) -> tuple[Mutant, ...]:
    """Return each mutant in the form that is written for a series; as it is where none is."""
    return tuple(
        next((form for form in (m, *m.ports) if series in form.kernels), m) for m in mutants
    )


def series_of(version: str) -> str:
    """Return the series of a release: ``6.1`` for ``6.1.192``."""
    return ".".join(version.split("-")[0].split(".")[:2])


def _near(name: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else None


def _series_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    numbered = [
        ((int(match[1]), int(match[2])), inner)
        for inner in folder.iterdir()
        if (match := _SERIES.match(inner.name)) and inner.is_dir()
    ]
    return [inner for _, inner in sorted(numbered)]


def _check_port(port: Mutant, first: Mutant | None, series: str) -> None:
    file = f"{series}/{port.name}{_SUFFIX}"
    if series not in port.kernels:
        raise UsageError(f"{file}: Kernels does not name {series}, the folder's series")
    twice = set(port.kernels) & set(first.series if first is not None else ())
    if twice:
        raise UsageError(f"{file}: another patch of this name is written for {min(twice)} too")
