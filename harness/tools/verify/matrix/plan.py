# SPDX-License-Identifier: GPL-2.0-only
"""The cells of a matrix: which patch is verified on which kernel, and with what. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.cli.options import KernelOptions

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.+_-]+")
_MOST_CHARACTERS = 60
OF_SOURCES = (".patch", ".diff", ".mbox")
"""How the names of diffs end."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A kernel of the matrix."""

    name: str
    options: KernelOptions


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A patch to verify on a kernel. ``not_run`` is why it is not; None: it is.

    Files are named as on the command line, by absolute paths. ``settings`` are those of a
    VerifyRequest but its files.
    """

    row: str
    column: str
    module: str | None = None
    source: str | None = None
    targets: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    check: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    not_run: str | None = None

    @property
    def id(self) -> str:
        """Its name in results: ``PATCH@KERNEL``."""
        return f"{self.row}@{self.column}"

    @property
    def file(self) -> str:
        """Its name as that of a file, which no other cell has."""
        plain = _NOT_IN_A_NAME.sub("-", self.id.replace("@", "_on_")).strip("-.")
        if plain == self.id.replace("@", "_on_") and len(plain) <= _MOST_CHARACTERS:
            return plain
        return f"{plain[:_MOST_CHARACTERS]}-{hashlib.sha256(self.id.encode()).hexdigest()[:8]}"

    @property
    def named(self) -> tuple[str, ...]:
        """All modules that it names: files, folders of sources, samples."""
        return (*((self.module,) if self.module else ()), *self.targets, *self.replaces)


@dataclass(frozen=True, kw_only=True)
class MatrixPlan:
    """Rows, columns and the cells where they meet, by columns and then by rows.

    A row that is not for a kernel has no cell there.
    """

    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]

    def cell(self, row: str, column: str) -> Cell | None:
        """Return the cell of a row and a column, if there is one."""
        return next((c for c in self.cells if (c.row, c.column) == (row, column)), None)

    def only(self, rows: Sequence[str], columns: Sequence[str]) -> MatrixPlan:
        """Return the part with these rows and columns; none given: all of them.

        Raises UsageError for a name that is not in the plan.
        """
        known = tuple(column.name for column in self.columns)
        for names, there, what in ((rows, self.rows, "patch"), (columns, known, "kernel")):
            for name in names:
                if name not in there:
                    raise UsageError(
                        f"the manifest has no {what} {name}", hint=f"it has {', '.join(there)}"
                    )
        kept_rows = tuple(row for row in self.rows if not rows or row in rows)
        kept = tuple(each for each in self.columns if not columns or each.name in columns)
        kept_names = {each.name for each in kept}
        return MatrixPlan(
            rows=kept_rows,
            columns=kept,
            cells=tuple(c for c in self.cells if c.row in kept_rows and c.column in kept_names),
        )


def unique(names: Sequence[str], what: str) -> None:
    """Raise UsageError when two patches or kernels have one name."""
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise UsageError(
            f"two {what} are named {twice[0]}: the table needs a name for each",
            hint="in a manifest, name = ... gives one another name",
        )


def name_of(word: str) -> str:
    """Return the name of a patch by the file, folder or sample that it is."""
    path = Path(word)
    return path.stem if path.suffix in (".ko", *OF_SOURCES) else path.name or word
