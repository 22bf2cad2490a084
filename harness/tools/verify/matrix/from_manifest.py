# SPDX-License-Identifier: GPL-2.0-only
"""From a manifest to the cells of a matrix. Everything it names is looked at before a kernel is."""

from __future__ import annotations

import contextlib
import re
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.modules import check_named
from harness.cli.options import KernelOptions
from harness.cli.prepare import check_kernels
from harness.errors import UsageError
from harness.tools.verify.case import check_script
from harness.tools.verify.matrix.manifest import KERNEL, PATCH
from harness.tools.verify.matrix.plan import OF_SOURCES, Cell, Column, MatrixPlan, name_of
from harness.tools.verify.scene_list import check_names
from harness.vm.kernel.build import DEFAULT_SPEC
from harness.vm.kernel.patch_file import read_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.tools.verify.matrix.manifest import KernelEntry, Manifest
    from harness.tools.verify.matrix.toml_lines import Place

_GLOB = re.compile(r"[*?\[]")
_HOLE = re.compile(r"\{(\w*)\}")
# The keys of a patch that are settings of a request, and what these are called there.
SETTINGS = {
    "param": "params",
    "load": "load",
    "scene": "scenes",
    "within": "within_s",
    "cycles": "cycles",
    "thorough": "thorough",
    "check_timeout": "check_timeout_s",
}


def plan_of(manifest: Manifest) -> MatrixPlan:
    """Return the cells of a manifest.

    Raises UsageError, with file, line and key, for a name that is unknown or given twice, a file
    that is missing, and whatever else a kernel is not needed to see.
    """
    planner = _Planner(manifest)
    columns = planner.columns()
    rows: dict[str, int] = {}
    cells: dict[tuple[str, str], Cell] = {}
    for number in range(len(manifest.patches)):
        for cell in planner.cells(number, columns):
            if rows.setdefault(cell.row, number) != number:
                raise manifest.wrong(
                    (PATCH, number),
                    f"two patches are named {cell.row}: this, and number {rows[cell.row] + 1}",
                    "name = ... gives one another name; exclude = ... leaves it out of a glob",
                )
            cells[cell.row, cell.column] = cell
    in_order = (cells.get((row, column.name)) for column in columns for row in rows)
    return MatrixPlan(
        rows=tuple(rows), columns=columns, cells=tuple(each for each in in_order if each)
    )


class _Planner:
    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._looked_at: set[tuple[str, str]] = set()

    def columns(self) -> tuple[Column, ...]:
        """Return the kernels; without one in the file, the default kernel."""
        found: dict[str, Column] = {}
        for number, entry in enumerate(self._manifest.kernels):
            name = entry.name or entry.spec
            if name in found:
                raise self._manifest.wrong((KERNEL, number), f"two kernels are named {name}")
            options = self._kernel(entry)
            with self._at((KERNEL, number, "spec")):
                check_kernels(options)
            found[name] = Column(name=name, options=options)
        return tuple(found.values()) or (
            Column(name=DEFAULT_SPEC, options=KernelOptions(spec=DEFAULT_SPEC)),
        )

    def _kernel(self, entry: KernelEntry) -> KernelOptions:
        return KernelOptions(
            spec=self._spec(entry.spec),
            fragments=tuple(
                self._path(name) if "/" in name or name.endswith(".config") else name
                for name in entry.kernel_config
            ),
            patches=tuple(Path(self._path(name)) for name in entry.patch),
            sha256=entry.sha256,
        )

    def _spec(self, spec: str) -> str:
        before, colon, path = spec.rpartition(":")
        is_path = "/" in path and "//" not in path
        return f"{before}{colon}{self._path(path)}" if is_path or spec in (".", "..") else spec

    def cells(self, number: int, columns: tuple[Column, ...]) -> Iterator[Cell]:
        """Yield the cells of one entry, for each kernel that it is for."""
        entry = self._manifest.patches[number]
        values, places = self._manifest.merged(number)
        given = [key for key in ("module", "source") if getattr(entry, key) is not None]
        if len(given) != 1:
            raise self._manifest.wrong(
                (PATCH, number), "a patch has either a module or a source, and has one of them"
            )
        (kind,) = given
        place = (PATCH, number, kind)
        pattern = str(getattr(entry, kind))
        if entry.name is not None and _GLOB.search(pattern):
            raise self._manifest.wrong((PATCH, number, "name"), "a glob gives many patches a name")
        wanted = self._wanted(values, places, columns)
        files = {column.name: self._files(place, pattern, column, entry.name) for column in wanted}
        excluded = entry.exclude
        names = {
            name
            for found in files.values()
            for name in found
            if not any(fnmatchcase(name, each) for each in excluded)
        }
        if not names:
            raise self._manifest.wrong(place, f"no file matches {pattern}")
        for column in wanted:
            for name in sorted(names):
                word = files[column.name].get(name)
                if word is None:
                    why = f"no file named {name} matches {pattern} for this kernel"
                    yield Cell(row=name, column=column.name, not_run=why)
                else:
                    yield self._cell(name, column, kind, place, word, values, places)

    def _wanted(
        self, values: Mapping[str, Any], places: Mapping[str, Place], columns: tuple[Column, ...]
    ) -> list[Column]:
        names = values.get("kernel")
        if names is None:
            return list(columns)
        known = {column.name: column for column in columns}
        for name in names:
            if name not in known:
                raise self._manifest.wrong(
                    places["kernel"],
                    f"there is no kernel {name}",
                    f"the kernels of this file: {', '.join(known)}",
                )
        return [column for column in columns if column.name in names]

    def _files(
        self, place: Place, pattern: str, column: Column, name: str | None
    ) -> dict[str, str]:
        """Return what a pattern names on a kernel, by the names of the patches."""
        text = self._filled(place, pattern, kernel=column.name, name=name)
        if not _GLOB.search(text):
            return {name or name_of(text): self._word(text)}
        found: dict[str, str] = {}
        for match in sorted(glob(text, root_dir=self._manifest.folder)):  # noqa: PTH207 - absolute patterns too
            each = name_of(match)
            if each in found:
                raise self._manifest.wrong(place, f"{text} matches two files named {each}")
            found[each] = self._path(match)
        return found

    def _cell(
        self,
        name: str,
        column: Column,
        kind: str,
        place: Place,
        word: str,
        values: Mapping[str, Any],
        places: Mapping[str, Place],
    ) -> Cell:
        def filled(key: str, text: str) -> str:
            return self._word(self._filled(places[key], text, kernel=column.name, name=name))

        def modules(key: str) -> tuple[str, ...]:
            words = tuple(filled(key, text) for text in values.get(key) or ())
            for each in words:
                self._look(places[key], "module", each, lambda text: check_named((text,)))
            return words

        if kind == "module":
            self._look(place, "module", word, lambda text: check_named((text,)))
        else:
            self._look(place, "source", word, lambda text: read_patch(Path(text)))
        check = values.get("check")
        if check is not None:
            text = self._filled(places["check"], check, kernel=column.name, name=name)
            check = self._path(text)
            self._look(places["check"], "check", check, lambda text: check_script(Path(text)))
        if values.get("scene"):
            with self._at(places["scene"]):
                check_names(values["scene"])
        return Cell(
            row=name,
            column=column.name,
            module=word if kind == "module" else None,
            source=word if kind == "source" else None,
            targets=modules("target"),
            replaces=modules("replaces"),
            check=check,
            settings={
                there: values[key] for key, there in SETTINGS.items() if values.get(key) is not None
            },
        )

    def _look(self, place: Place, what: str, word: str, look: Callable[[str], object]) -> None:
        """Look at a file once; a test file takes pytest a second."""
        if (what, word) not in self._looked_at:
            with self._at(place):
                look(word)
            self._looked_at.add((what, word))

    def _filled(self, place: Place, text: str, *, kernel: str, name: str | None) -> str:
        holes = {"kernel": kernel} | ({"name": name} if name is not None else {})
        for hole in _HOLE.findall(text):
            if hole not in holes:
                raise self._manifest.wrong(
                    place,
                    f"{{{hole}}} stands for nothing here",
                    f"known here: {', '.join(f'{{{each}}}' for each in holes)}",
                )
        return _HOLE.sub(lambda found: holes[found[1]], text)

    def _word(self, text: str) -> str:
        """Return a module as the command line names it: a path is absolute, a sample is not."""
        is_path = "/" in text or text.endswith((".ko", *OF_SOURCES))
        return self._path(text) if is_path or (self._manifest.folder / text).exists() else text

    def _path(self, text: str) -> str:
        return str(self._manifest.folder / Path(text).expanduser())

    @contextlib.contextmanager
    def _at(self, place: Place) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            raise self._manifest.wrong(place, error.message, error.hint) from error
