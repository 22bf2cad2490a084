# SPDX-License-Identifier: GPL-2.0-only
"""A few mutants instead of all, chosen by a number. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.behaviours.mutants import Mutant

SEED_VARIABLE = "KLP_HARNESS_MUTANT_SEED"
"""Which mutant the project's own tests build; CI sets it."""


def sample(mutants: Sequence[Mutant], count: int, seed: int) -> tuple[Mutant, ...]:
    """Return so many of the mutants; consecutive seeds go through all of them.

    They are not in the order of their names, since neighbours often break the same thing.
    """
    order = sorted(mutants, key=lambda mutant: hashlib.sha256(mutant.name.encode()).digest())
    start = seed * count
    return tuple(order[(start + i) % len(order)] for i in range(min(count, len(order))))


def seed_from(environment: Mapping[str, str]) -> int | None:
    """Return the seed of the environment, if any; raises UsageError for anything but a number."""
    text = environment.get(SEED_VARIABLE)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{SEED_VARIABLE} is {text!r}; it has to be a number, 0 or more")
    return int(text)
