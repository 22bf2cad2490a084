# SPDX-License-Identifier: GPL-2.0-only
"""Which of the mutants a sweep runs. Pure."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import shown
from harness.tools.mutants.sample_options import drawn_seed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harness.cli.invocation import Invocation
    from harness.tools.mutants.sweep.candidates import Candidate, Operator


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which mutants are asked for: those that are named, or some of files and operators."""

    names: tuple[str, ...]
    files: tuple[str, ...]
    operators: tuple[Operator, ...]
    sample_size: int | None
    seed: int | None

    def of(
        self, mutants: Sequence[Candidate], invocation: Invocation
    ) -> tuple[tuple[Candidate, ...], str]:
        """Return those of the mutants that are asked for, and in words how many they are.

        A seed that is drawn is the invocation's. Raises UsageError for a name of none.
        """
        found = choose(mutants, names=self.names, files=self.files, operators=self.operators)
        if self.sample_size is None:
            return found, f"{len(found)} of {len(mutants)}"
        seed = drawn_seed(self.seed)
        invocation.chosen["seed"] = seed
        few = sample(found, self.sample_size, seed)
        return few, f"{len(few)} of {len(found)}, seed {seed}"


def choose(
    mutants: Sequence[Candidate],
    *,
    names: Sequence[str] = (),
    files: Sequence[str] = (),
    operators: Collection[Operator] = (),
) -> tuple[Candidate, ...]:
    """Return the mutants that are named, or those of files and operators that are; default: all.

    A file is named as the kernel does, or by its last part. Raises UsageError for a name of none.
    """
    known = {mutant.name for mutant in mutants}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise UsageError(
                f"there is no mutant {shown(name)}",
                hint=f"did you mean {', '.join(near)}?" if near else None,
            )
    for file in files:
        if not any(_is_of(mutant, file) for mutant in mutants):
            raise UsageError(f"no mutant is in {shown(file)}")
    chosen = tuple(
        mutant
        for mutant in mutants
        if (not names or mutant.name in names)
        and (not files or any(_is_of(mutant, file) for file in files))
        and (not operators or mutant.operator in operators)
    )
    if not chosen:
        raise UsageError("no mutant is left: no code of these files fits these operators")
    return chosen


def sample(mutants: Sequence[Candidate], count: int, seed: int) -> tuple[Candidate, ...]:
    """Return so many of the mutants; consecutive seeds go through all of them."""
    order = sorted(mutants, key=lambda mutant: hashlib.sha256(mutant.name.encode()).digest())
    start = seed * count
    return tuple(order[(start + i) % len(order)] for i in range(min(count, len(order))))


def _is_of(mutant: Candidate, file: str) -> bool:
    file = file.rstrip("/")
    return (
        mutant.file == file
        or mutant.file.endswith(f"/{file}")
        or mutant.file.startswith(f"{file}/")
    )
