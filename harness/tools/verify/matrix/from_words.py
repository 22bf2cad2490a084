# SPDX-License-Identifier: GPL-2.0-only
"""From the words of a command line with several kernels to the cells of a matrix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tools.verify.matrix.plan import Cell, Column, MatrixPlan, name_of, unique

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.cli.options import KernelOptions

_DEBUG = "debug"


def plan_of_words(
    *,
    modules: Sequence[str],
    sources: Sequence[Path],
    targets: Sequence[str],
    replaces: Sequence[str],
    check: Path | None,
    settings: Mapping[str, Any],
    kernels: Sequence[KernelOptions],
    thorough: bool,
) -> MatrixPlan:
    """Return the cells: each module, and each diff, on each kernel.

    ``thorough`` adds to each kernel one with lockdep and KASAN; a .ko file is not run there. Raises
    UsageError for two modules or kernels of one name.
    """
    columns: list[Column] = []
    for options in kernels:
        columns.append(Column(name=options.spec, options=options))
        if thorough:
            with_debug = replace(options, fragments=(*options.fragments, _DEBUG))
            columns.append(Column(name=f"{options.spec} {_DEBUG}", options=with_debug))
    named: list[tuple[str, str | None, str | None]]
    named = [(name_of(word), word, None) for word in modules]
    named += [(name_of(str(path)), None, str(path.absolute())) for path in sources]
    unique([name for name, _, _ in named], "patches")
    unique([column.name for column in columns], "kernels")
    common: dict[str, Any] = {
        "targets": tuple(_absolute(word) for word in targets),
        "replaces": tuple(_absolute(word) for word in replaces),
        "check": str(check.absolute()) if check is not None else None,
        "settings": settings,
    }
    built = [word for word in (*targets, *replaces) if _is_file(word)]
    cells = tuple(
        Cell(
            row=name,
            column=column.name,
            module=_absolute(word) if word is not None else None,
            source=source,
            not_run=_unfit([*built, *((word,) if word and _is_file(word) else ())], column),
            **common,
        )
        for column in columns
        for name, word, source in named
    )
    return MatrixPlan(rows=tuple(n for n, _, _ in named), columns=tuple(columns), cells=cells)


def _unfit(built: Sequence[str], column: Column) -> str | None:
    if not built or not column.name.endswith(f" {_DEBUG}"):
        return None
    return (
        f"{Path(built[-1]).name} is built for the other kernel: give the folder of its sources to "
        "have it verified with lockdep and KASAN too"
    )


def _is_file(word: str) -> bool:
    return Path(word).expanduser().is_file()


def _absolute(word: str) -> str:
    path = Path(word).expanduser()
    return str(path.absolute()) if path.exists() or "/" in word else word
