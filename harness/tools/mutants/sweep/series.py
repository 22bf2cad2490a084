# SPDX-License-Identifier: GPL-2.0-only
"""A series of patches: the files as they are after it, and the lines that it touches."""

from __future__ import annotations

import difflib
import shutil
from typing import TYPE_CHECKING

from harness.errors import PatchDoesNotApply
from harness.vm.host.process import run
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.vm.kernel.patch_file import PatchFile

_APPLY = ("-p1", "--fuzz=0", "--forward", "--batch", "--no-backup-if-mismatch", "--reject-file=-")


def after_series(
    root: Path, series: Sequence[PatchFile], *, deadline: Deadline
) -> dict[str, bytes | None]:
    """Return the files that a series changes in a tree, as they are after it; None: removed.

    The tree is only read. Raises PatchDoesNotApply.
    """
    names = dict.fromkeys(name for patch in series for name in patch.files)
    with temporary_folder("series") as folder:
        for name in names:
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, folder / name)
        for patch in series:
            file = folder / "series.patch"
            file.write_bytes(patch.content)
            run(
                ["patch", *_APPLY, f"--directory={folder}", f"--input={file}"],
                deadline=deadline,
                explain=lambda error, name=patch.name: PatchDoesNotApply(  # type: ignore[misc]
                    f"{name} does not apply to this kernel",
                    hint="it has to fit without fuzz; several files apply in the order given",
                    details=error.details,
                ),
            )
        return {
            name: (folder / name).read_bytes() if (folder / name).is_file() else None
            for name in names
        }


def touched_lines(before: bytes, after: bytes) -> frozenset[int]:
    """Return the lines of the new text that the old one does not have, or has otherwise."""
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    return frozenset(
        line + 1
        for kind, _, _, begin, end in matcher.get_opcodes()
        if kind in ("replace", "insert")
        for line in range(begin, end)
    )


def touched(
    mutants: Sequence[Candidate], sources: Mapping[str, bytes], lines: Mapping[str, frozenset[int]]
) -> tuple[Candidate, ...]:
    """Return the mutants of which the code is on one of these lines, by file."""

    def places(mutant: Candidate) -> range:
        text = sources[mutant.file]
        end = max(mutant.end, mutant.partner_end)
        return range(mutant.line, mutant.line + text[mutant.start : end].count(b"\n") + 1)

    return tuple(
        mutant
        for mutant in mutants
        if not lines.get(mutant.file, frozenset()).isdisjoint(places(mutant))
    )
